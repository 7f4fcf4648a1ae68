"""What a machine may lack."""

import os

import pytest


def skip_unless_ci(reason):
    """Skip here, with the reason; fail in CI, where everything that tests need is there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
