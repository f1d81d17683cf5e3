"""Faults and attacks that concern services, each with the tests that play it on real ones."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from sn46.api.settings import ApiSettings

TESTS = Path(__file__).parents[1]

PLAYED: dict[str, tuple[str, ...]] = {
    "copies from another miner": (
        "test_submissions_are_read_frozen_once_the_epoch_has_ended",
        "test_no_key_leads_out_of_the_folder",
    ),
    "lying row counts, tiny or huge files, decompression bombs, deep row groups, corrupt pages": (
        "test_footers_that_lie",
        "test_one_long_text_for_every_row_is_a_bomb",
        "test_more_row_groups_than_allowed",
        "test_too_much_memory_costs_its_sender_alone",
    ),
    "validators copy one another's weights": (
        "test_evidence_is_hidden_until_its_deadline_and_frozen_then",
    ),
    "validators punish miners for their own faults": (
        "test_a_source_that_is_away_costs_miners_nothing",
        "test_trouble_that_stays_is_an_error_and_never_not_found",
    ),
    "miner ids are re-used: weights for a UID reach a stranger": (
        "test_weights_reach_the_uid_that_a_hotkey_holds_now",
        "test_a_uid_that_passes_on_while_weights_are_set_is_noticed",
    ),
    "restart: scores lost, epoch done twice, weights skipped": (
        "test_a_crash_at_every_step_changes_nothing",
        "test_killed_at_any_moment",
    ),
    '"scheduled" taken for "set"': (
        "test_weights_are_set_and_read_back",
        "test_an_answer_lost_after_inclusion_is_found_on_the_chain",
    ),
    "chain RPC down at start: every request makes its own call": (
        "test_an_old_chain_view_fails_closed",
    ),
    "garbage requests naming a victim use up its allowance": (
        "test_garbage_in_a_victims_name_costs_it_nothing",
    ),
    "replay of a signed request; future-dated timestamps": (
        "test_the_window_of_the_header_way",
        "test_a_btauth_request_counts_once",
        "test_replicas_share_limits_and_seen_nonces",
    ),
    "24-hour upload policies that span epochs, 5 GB files": (
        "test_a_policy_forces_folder_nonce_and_deadline",
        "test_expired_policy_is_refused",
        "test_size_is_limited",
    ),
    "addresses or ZIPs as numbers, leading zero lost": (
        "test_zips_that_lost_zeros_are_repaired_and_counted",
    ),
    "a portal answers 403 more and more, with or without proxies": (
        "test_it_slows_down_when_refused_and_speeds_up_again",
        "test_a_dead_proxy_and_a_blocked_one_rest_while_another_works",
        "test_refused_zips_are_left_out_and_the_rest_is_submitted",
    ),
    "a portal stops at about 1,000 results": (
        "test_a_zip_over_the_result_limit_comes_out_complete",
        "test_overlapping_parts_count_a_home_once",
    ),
}


@pytest.fixture(scope="module")
def written() -> set[str]:
    sources = (path.read_text() for path in TESTS.rglob("test_*.py"))
    return {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}


@pytest.mark.parametrize("row", PLAYED)
def test_it_is_played_where_the_service_is(row: str, written: set[str]) -> None:
    assert set(PLAYED[row]) <= written


def test_no_key_is_there_by_default() -> None:
    """default admin or metrics keys; any origin with credentials"""
    secrets = {n: f for n, f in ApiSettings.model_fields.items() if f.annotation is SecretStr}
    assert secrets
    assert all(field.is_required() for field in secrets.values())
    assert not [name for name in ApiSettings.model_fields if "admin" in name or "cors" in name]
