"""Two questions share a cache key if they are equal, and only then; costly ones are told from plain ones."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simshard.serve.engine.cache_keys import answer_key, plain_text, question_text
from simshard.serve.engine.question import Question, Seeds
from simshard.shards.strategies import strategy_named

PLAIN = Question(Seeds((3,), (1.0,), (False,)), 10)
OTHER = {
    "seeds": Seeds((4,), (1.0,), (False,)),
    "limit": 11,
    "offset": 1,
    "strategy": strategy_named("best_score"),
    "exclude": (1,),
    "candidates": (1, 2),
    "score_threshold": 0.5,
    "filter": '{"must":[]}',
    "boosts": (('{"must":[]}', 2.0),),
    "diversity": 0.5,
    "group_by": "year",
    "group_size": 2,
    "fallback": ("year", True),
    "explain": True,
    "with_payload": False,
    "timeout_ms": 5,
}
COSTLY = {"candidates", "boosts", "diversity", "group_by", "group_size", "fallback", "explain"}


def test_every_field_but_the_time_it_may_take_is_in_the_key():
    assert set(OTHER) == {each.name for each in fields(Question)}
    texts = {name: question_text(replace(PLAIN, **{name: value})) for name, value in OTHER.items()}
    assert texts.pop("timeout_ms") == question_text(PLAIN) == plain_text(3, 10, 0, True)
    assert len(set(texts.values()) | {question_text(PLAIN)}) == len(texts) + 1


@pytest.mark.parametrize("name", OTHER)
def test_what_takes_more_than_the_best_of_one_row_is_costly(name):
    assert replace(PLAIN, **{name: OTHER[name]}).kind == ("recommend" if name in COSTLY else "similar")


def test_several_seeds_or_a_disliked_one_are_costly():
    for seeds in (Seeds((1, 2), (1.0, 1.0), (False, False)), Seeds((1,), (1.0,), (True,)), Seeds()):
        assert replace(PLAIN, seeds=seeds).kind == "recommend"


changes = st.dictionaries(st.sampled_from(sorted(OTHER)), st.booleans()).map(
    lambda chosen: replace(PLAIN, **{name: OTHER[name] for name, yes in chosen.items() if yes})
)


@given(changes, changes)
def test_keys_are_equal_where_questions_are(one, other):
    assert (question_text(one) == question_text(other)) == (one == other)


def test_snapshot_and_what_is_kept_out_are_in_the_key():
    keys = {answer_key(name, version, "question") for name in ("a", "b") for version in ("", "v")}
    assert len(keys) == 4
