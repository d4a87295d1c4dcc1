"""docs/proxies.md: its files are those that run, and each row about a setting is a test of its absence."""

import re

from proxies import test_haproxy_settings, test_nginx_settings, test_settings
from proxies.reverse import PAGE, blocks

TESTS = {
    "client_max_body_size": "test_without_client_max_body_size_large_requests_are_rejected",
    "grpc_buffer_size": "test_without_grpc_buffer_size_a_long_status_is_lost",
    "grpc_read_timeout": "test_a_timeout_shorter_than_a_call_cuts_it",
    "proxy_read_timeout": "test_a_timeout_shorter_than_a_call_cuts_it",
    "grpc_read_timeout 1d": "test_without_a_long_timeout_nginx_ends_a_watch",
    "X-Forwarded-For": "test_without_x_forwarded_for_a_client_chooses_its_address",
    "proxy_http_version 1.1": "test_without_http_1_1_a_broken_stream_looks_whole",
    'Connection ""': "test_without_keepalive_each_request_opens_a_connection",
    "keepalive": "test_without_keepalive_each_request_opens_a_connection",
    "Host $http_host": "test_without_the_host_own_pages_are_rejected",
    "proxy_next_upstream": "test_without_next_upstream_a_stopping_replica_fails_a_call",
    "option http-no-delay": "test_without_http_no_delay_tokens_are_late",
    "option abortonclose": "test_without_abortonclose_the_provider_is_not_released",
    "alpn": "test_over_http_2_haproxy_hides_that_a_stream_failed",
    "http/1.1": "test_over_http_2_haproxy_hides_that_a_stream_failed",
    "timeout server": "test_a_timeout_shorter_than_a_call_cuts_it",
    "set-header X-Forwarded-For": "test_without_x_forwarded_for_a_client_chooses_its_address",
}
NO_SETTINGS = {"/grpc.", "togetherchat_http"}
"""Words in backticks that say where a setting is."""


def test_there_is_one_file_for_each_proxy():
    assert (1, 1) == (len(blocks("nginx")), len(blocks("haproxy")))


def test_each_row_about_a_setting_is_a_test():
    """The first column of the tables `without`, whose settings are in the files."""
    page = PAGE.read_text(encoding="utf-8")
    tables = re.findall(r"^\| without \| what happens \|\n\|---\|---\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    rows = [row.split(" | ")[0] for table in tables for row in table.splitlines()]
    named = {setting for row in rows for setting in re.findall(r"`([^`]+)`", row)} - NO_SETTINGS
    files = "".join((*blocks("nginx"), *blocks("haproxy")))

    assert set(TESTS) == named
    assert [] == [setting for setting in named if setting not in files]
    tests = {
        name
        for module in (test_haproxy_settings, test_nginx_settings, test_settings)
        for name in vars(module)
    }
    assert set() == set(TESTS.values()) - tests


def test_links_to_vendors_are_https():
    links = re.findall(r"\]\((http[^)]+)\)", PAGE.read_text(encoding="utf-8"))

    assert len(links) > 10
    assert all(link.startswith("https://") for link in links)
