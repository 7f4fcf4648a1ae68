"""Cache keys and entity tags: all that tells an answer from every other, in memory, in Redis and in HTTP caches."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter

import xxhash

from simshard.serve.engine.question import Question, Seeds

ANSWER_FORMAT = 3  # part of every key: raise it when the bytes of an answer change

_values_of = attrgetter(*(each.name for each in fields(Question) if each.compare))


def answer_key(snapshot: str, version: str, question: object) -> bytes:
    """The key of the answer to a question, which its text tells from every other.

    version: what items are kept out of answers, as `CompiledFilters.version` tells; empty where none is.
    """
    return f"{ANSWER_FORMAT} {snapshot} {version} {question}".encode()


def question_text(question: Question) -> str:
    """What tells a question from every other to a snapshot: all of its fields, or few for the best of one item."""
    seeds = question.seeds
    if len(seeds.rows) == 1 and question == _plain(question):
        return plain_text(seeds.rows[0], question.limit, question.offset, question.with_payload)
    return repr(_values_of(question))


def _plain(question: Question) -> Question:
    """The best of its first item and nothing else."""
    seeds = Seeds((question.seeds.rows[0],), (1.0,), (False,))
    return Question(seeds, question.limit, offset=question.offset, with_payload=question.with_payload)


def plain_text(row: int, limit: int, offset: int, with_payload: bool) -> str:
    """The text of the question for the best of one item, with nothing else to it."""
    return f"similar {row} {limit} {offset} {with_payload}"


def entity_tag(key: bytes) -> str:
    """An ETag for what a key stands for."""
    return f'"{xxhash.xxh3_128_hexdigest(key)}"'
