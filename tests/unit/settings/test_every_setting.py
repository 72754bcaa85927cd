"""Each setting of the reference is changed by a test that sees it act: the list, and that it is complete."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from firerunner.settings import HostSettings, Settings
from firerunner.settings.reference import nested_section

TESTS = Path(__file__).parents[2]

SEEN_BY = {
    "gitlab.name": "test_each_gitlab_wakes_its_own_pools",
    "gitlab.url": "test_under_a_path_with_a_private_authority",
    "gitlab.clone_url": "test_a_guest_reaches_gitlab_by_name_and_tls_only_as_the_settings_say",
    "gitlab.ca_file": "test_under_a_path_with_a_private_authority",
    "gitlab.api_token": "test_a_job_sees_the_size_that_its_tag_names",
    "gitlab.webhook_secret": "test_hooks_come_over_tls_and_secret_and_certificate_change_without_a_restart",
    "gitlab.webhook_secret_old": "test_two_secrets_are_valid_while_rotating",
    "gitlab.webhook_signing_token": "test_gitlabs_test_reaches_the_service",
    "gitlab.webhook_signing_token_old": "test_two_signing_tokens_are_valid_while_rotating",
    "pools.name": "test_a_withdrawn_pool_takes_no_more_jobs_and_ends_what_it_has",
    "pools.gitlab": "test_a_pool_that_moves_to_another_gitlab_takes_nothing_with_it",
    "pools.runner_token": "test_a_rotated_token_is_used_at_once_after_a_refusal",
    "pools.sized.prefixes": "test_the_first_template_that_is_large_enough_serves",
    "pools.sized.max_vcpu": "test_what_is_too_large_is_said_for_each_template",
    "pools.sized.max_memory_mib": "test_what_is_too_large_is_said_for_each_template",
    "pools.sized.max_sizes": "test_no_more_sizes_than_the_template_says",
    "pools.sized.runner_type": "test_the_runner_is_made_where_the_template_says",
    "pools.sized.group_id": "test_the_runner_is_made_where_the_template_says",
    "pools.sized.unused": "test_an_unused_runner_is_removed",
    "pools.sized.look_every": "test_listed_projects_are_looked_at_as_often_as_the_template_says",
    "pools.sized.projects": "test_listed_projects_need_no_hook",
    "pools.image": "test_size_image_and_egress_reach_the_driver",
    "pools.start": "test_machines_start_as_the_pool_says",
    "pools.vcpu": "test_what_a_pool_and_a_host_say_is_seen",
    "pools.memory_mib": "test_size_image_and_egress_reach_the_driver",
    "pools.disk_mib": "test_what_a_pool_and_a_host_say_is_seen",
    "pools.limit": "test_no_more_machines_than_the_limit",
    "pools.warm.count": "test_warm_machines_wait_before_there_is_a_job_and_are_made_again",
    "pools.warm.schedule.days": "test_windows_reach_the_plan",
    "pools.warm.schedule.hours": "test_windows_reach_the_plan",
    "pools.warm.schedule.zone": "test_windows_reach_the_plan",
    "pools.warm.schedule.count": "test_windows_reach_the_plan",
    "pools.warm.auto.misses": "test_the_automatic_rule_reaches_the_plan",
    "pools.warm.auto.most": "test_the_automatic_rule_reaches_the_plan",
    "pools.warm.max_age": "test_what_has_waited_its_time_is_replaced",
    "pools.hosts": "test_machines_are_made_on_the_pools_hosts_only",
    "pools.host_labels": "test_labels_choose_the_hosts_of_a_pool",
    "pools.lost_jobs": "test_a_job_whose_hand_over_was_lost_is_found_cancelled_and_as_the_pool_says_retried",
    "pools.placement": "test_machines_go_to_the_emptiest_host_or_to_the_fullest",
    "pools.egress": "test_an_uplink_leads_where_its_rules_say",
    "pools.proxy.url": "test_behind_a_proxy_with_a_password",
    "pools.proxy.no_proxy": "test_a_proxy_is_told_in_both_cases_and_never_for_the_gate",
    "pools.ca_file": "test_images_come_from_private_registries_and_mirrors",
    "pools.projects": "test_hooks_of_other_projects_do_not_wake_the_pool",
    "pools.check_interval": "test_between_asks_the_pool_waits_for_its_interval_or_a_hook",
    "pools.max_job_time": "test_no_job_runs_longer_than_the_pool_says",
    "pools.boot_timeout": "test_a_guest_that_does_not_boot_in_time_is_given_up_and_the_job_gets_another",
    "pools.runner_config": "test_what_a_pool_and_a_host_say_is_seen",
    "pools.hold.time": "test_the_gate_knows_how_long_and_how_many_of_a_pool_are_kept",
    "pools.hold.limit": "test_the_gate_knows_how_long_and_how_many_of_a_pool_are_kept",
    "pools.docker_daemon": "test_images_come_from_private_registries_and_mirrors",
    "hosts.name": "test_machines_are_made_on_the_pools_hosts_only",
    "hosts.driver": "test_address_namespace_bridge_and_gate_reach_the_daemon",
    "hosts.labels": "test_labels_choose_the_hosts_of_a_pool",
    "hosts.overcommit_vcpu": "test_overcommit_gives_out_more",
    "hosts.overcommit_memory": "test_overcommit_gives_out_more",
    "hosts.address": "test_address_namespace_bridge_and_gate_reach_the_daemon",
    "hosts.tls.ca_file": "test_certificates_token_and_name_are_shown_as_set",
    "hosts.tls.cert_file": "test_certificates_token_and_name_are_shown_as_set",
    "hosts.tls.key_file": "test_certificates_token_and_name_are_shown_as_set",
    "hosts.tls.server_name": "test_certificates_token_and_name_are_shown_as_set",
    "hosts.token": "test_certificates_token_and_name_are_shown_as_set",
    "hosts.insecure": "test_a_mistake_is_named_at_config_check",
    "hosts.namespace": "test_address_namespace_bridge_and_gate_reach_the_daemon",
    "hosts.bridge": "test_address_namespace_bridge_and_gate_reach_the_daemon",
    "hosts.gate_url": "test_address_namespace_bridge_and_gate_reach_the_daemon",
    "hosts.timeout": "test_a_call_takes_no_longer_than_is_set",
    "hosts.vcpu": "test_a_host_gives_out_what_the_settings_say",
    "hosts.memory_mib": "test_a_host_gives_out_what_the_settings_say",
    "hosts.disk_mib": "test_a_host_gives_out_what_the_settings_say",
    "hosts.disk_dir": "test_what_a_pool_and_a_host_say_is_seen",
    "hosts.keep_free_mib": "test_a_host_gives_out_what_the_settings_say",
    "listen.web": "test_hooks_come_over_tls_and_secret_and_certificate_change_without_a_restart",
    "listen.web_cert_file": "test_hooks_come_over_tls_and_secret_and_certificate_change_without_a_restart",
    "listen.web_key_file": "test_hooks_come_over_tls_and_secret_and_certificate_change_without_a_restart",
    "listen.gate": "test_a_job_sees_the_size_that_its_tag_names",
    "listen.gate_https": "test_guests_of_other_hosts_find_the_gate_by_https",
    "listen.gate_cert_file": "test_guests_of_other_hosts_find_the_gate_by_https",
    "listen.gate_key_file": "test_guests_of_other_hosts_find_the_gate_by_https",
    "listen.gate_ca_file": "test_guests_of_other_hosts_find_the_gate_by_https",
    "webhook.insecure": "test_insecure_must_be_said_and_then_wakes_all",
    "webhook.max_body": "test_a_body_that_says_it_is_too_large_is_refused",
    "webhook.body_timeout": "test_a_sender_who_does_not_finish_its_body_is_cut_off",
    "webhook.allow": "test_only_allowed_networks_get_in",
    "webhook.trusted_proxies": "test_only_allowed_networks_get_in",
    "webhook.failures_per_minute": "test_a_reload_forgets_no_failures_and_a_new_limit_counts_anew",
    "api.read_token": "test_tokens_open_the_api_and_are_taken_up_anew",
    "api.operate_token": "test_tokens_open_the_api_and_are_taken_up_anew",
    "api.open_on_loopback": "test_on_loopback_it_is_open_if_that_is_said",
    "proxy.url": "test_behind_a_proxy_with_a_password",
    "proxy.no_proxy": "test_who_is_reached_without_the_proxy",
    "database.url": "test_ledger_and_key_lie_where_the_settings_say",
    "database.key_file": "test_ledger_and_key_lie_where_the_settings_say",
    "database.keep_days": "test_what_is_over_is_kept_for_so_many_days",
    "log.level": "test_logs_have_the_form_and_the_level_that_is_set",
    "log.format": "test_logs_have_the_form_and_the_level_that_is_set",
    "log.file": "test_the_log_goes_to_a_file_that_is_rotated_as_the_settings_say",
    "log.max_mib": "test_the_log_goes_to_a_file_that_is_rotated_as_the_settings_say",
    "log.keep_files": "test_the_log_goes_to_a_file_that_is_rotated_as_the_settings_say",
    "log.keep_days": "test_the_log_goes_to_a_file_that_is_rotated_as_the_settings_say",
    "log.compress": "test_the_log_goes_to_a_file_that_is_rotated_as_the_settings_say",
    "telemetry.traces.endpoint": "test_a_job_of_a_real_run_is_one_trace",
    "state_dir": "test_without_them_all_is_in_the_state_directory",
    "image_dir": "test_images_are_looked_for_where_the_settings_say",
}


def every_setting(model: type[BaseModel] = Settings, path: str = "") -> Iterator[str]:
    for name in model.model_fields:
        section = nested_section(model, name)
        if section is None:
            yield path + name
        else:
            yield from every_setting(section, f"{path}{name}.")


def test_no_setting_is_without_a_test_that_sees_it_act() -> None:
    assert set(every_setting()) == SEEN_BY.keys()


def test_these_tests_are_there() -> None:
    there = {
        node.name
        for file in TESTS.rglob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert set(SEEN_BY.values()) - there == set()


def test_a_driver_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValidationError, match="Input should be 'qemu'"):
        HostSettings.model_validate({"driver": "vmware"})
