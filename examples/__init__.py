"""Catalogues that come with simshard."""
