"""Every sentence of ``docs/safety.md`` has a test: the table names it, and a sentence that is new has to be added."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.support.doc_pages import ROOT

# How sentences begin that say nothing of what the linter does, or of what a test cannot show: and why none is there.
WITHOUT = {
    "This page says": "introduces the page",
    "Everything above is about": "leads over",
    "The cluster is trusted like": "of others' code",
    "What decides what runs outside": "leads over",
    "An environment into which": "explains the sentence before it",
    "If that is too little": "advice",
    "Bugs of the kernel": "of others' code",
    "Other processes' names": "what the machine shows without a mount of /proc",
    "Side channels": "of the machine",
}

# How sentences begin: the tests that show that they hold.
TESTS = {
    "`theria-lint record -- COMMAND": "tests/launch/test_record.py::test_the_exit_code_of_the_command_is_passed_on "
    "tests/launch/test_diagnose_command.py::test_the_culprit_is_named",
    "What they leave is data": "tests/launch/test_record.py::test_a_call_is_kept_as_data",
    "A [call](recorded-calls.md) na": "tests/launch/test_record.py::test_a_hostile_call_executes_nothing",
    "Nothing is imported for a call": "tests/launch/test_record.py::test_a_hostile_call_executes_nothing",
    "Objects are made without runni": "tests/launch/test_record.py::test_a_hostile_call_executes_nothing",
    "Code that docs and tests show i": "tests/confirm/test_example_calls.py::"
    "test_what_the_user_did_not_name_is_neither_read_nor_run",
    "A file of another form is not ": "tests/launch/test_record.py::"
    "test_a_broken_file_is_one_sentence_and_nothing_is_lost "
    "tests/launch/test_record.py::test_a_link_out_of_the_project_is_not_followed",
    "`theria-lint PATH` runs": "tests/confirm/test_confirm.py::test_a_harmful_and_a_harmless_detach_in_one_target",
    "With `--no-confirm` nothing": "tests/sandbox/test_surroundings.py::test_with_no_confirm_nothing_is_imported",
    "The importer and its probes": "tests/sandbox/test_safety.py::test_importing_is_enclosed_too",
    "They need no privileges": "tests/sandbox/test_surroundings.py::test_the_surroundings_are_as_the_page_says "
    "tests/sandbox/test_lacking.py::test_nothing_outlives_the_run_and_the_others_are_checked",
    "| `namespaces`": "tests/sandbox/test_surroundings.py::test_the_surroundings_are_as_the_page_says "
    "tests/sandbox/test_lacking.py::test_nothing_outlives_the_run_and_the_others_are_checked",
    "| `privileges`": "tests/sandbox/test_surroundings.py::test_the_surroundings_are_as_the_page_says",
    "| `files`": "tests/sandbox/test_surroundings.py::test_the_surroundings_are_as_the_page_says "
    "tests/sandbox/test_readable_files.py::test_a_probe_reads_nothing_hidden_and_follows_no_link_out "
    "tests/sandbox/test_safety.py::test_the_system_refuses "
    "tests/sandbox/test_lacking.py::test_importing_a_file_signals_no_other_process",
    "| `calls`": "tests/sandbox/test_surroundings.py::test_the_filter_refuses_what_the_page_lists "
    "tests/sandbox/test_filters.py::test_no_way_to_a_mount_or_a_namespace "
    "tests/sandbox/test_filters.py::test_a_new_process_is_in_the_namespaces_of_the_old "
    "tests/sandbox/test_filters.py::test_processors_are_chosen_for_oneself "
    "tests/sandbox/test_filters.py::test_an_open_file_is_no_way_to_others "
    "tests/sandbox/test_programs.py::test_whoever_goes_on_without_an_answer_is_measured",
    "| `processes`": "tests/sandbox/test_safety.py::test_damage_stays_in_the_target "
    "tests/sandbox/test_surroundings.py::test_the_surroundings_are_as_the_page_says "
    "tests/sandbox/test_surroundings.py::test_on_a_gpu_a_target_may_start_what_compiles",
    "| `disk`": "tests/sandbox/test_safety.py::test_the_disk_is_not_filled "
    "tests/sandbox/test_surroundings.py::test_the_surroundings_are_as_the_page_says "
    "tests/sandbox/test_lacking.py::test_nothing_outlives_the_run_and_the_others_are_checked",
    "Everywhere, Linux or not": "tests/sandbox/test_surroundings.py::test_the_surroundings_are_as_the_page_says "
    "tests/sandbox/test_surroundings.py::test_variables_that_speak_of_secrets_are_left_out_whatever_they_begin_with "
    "tests/sandbox/test_surroundings.py::test_times_are_those_of_the_page "
    "tests/sandbox/test_safety.py::test_damage_stays_in_the_target "
    "tests/sandbox/test_safety.py::test_everything_ends_with_the_linter",
    "A probe may signal": "tests/sandbox/test_safety.py::test_damage_stays_in_the_target",
    "It answers on a pipe": "tests/worker/test_forging.py::test_nothing_in_a_probe_makes_a_forged_answer_genuine "
    "tests/worker/test_forging.py::test_lines_written_to_every_file_are_no_answer",
    "The answer counts": "tests/worker/test_forging.py::test_a_probe_speaks_for_its_own_target "
    "tests/worker/test_forging.py::test_what_a_probe_said_before_it_died_is_no_evidence",
    "Nothing that a worker says": "tests/confirm/test_answers.py::test_nonsense_costs_the_target_that_ran",
    "Each message is held": "tests/confirm/test_answers.py::test_nonsense_costs_the_target_that_ran "
    "tests/confirm/test_protocol_fuzz.py::test_an_outcome_is_taken_whole_or_not_at_all",
    "One that fails costs": "tests/confirm/test_answers.py::test_nonsense_costs_the_target_that_ran",
    "An answer has 8 MiB": "tests/worker/test_forging.py::test_a_flood_ends_the_job "
    "tests/worker/test_forging.py::test_a_probe_that_answers_nonsense_says_so",
    "A worker that ends, or says": "tests/confirm/test_answers.py::test_a_worker_that_comes_to_a_bad_end_is_replaced",
    "A target tells something": "tests/worker/test_forging.py::test_a_file_says_nothing_of_what_it_does_not_run",
    "If A calls a function": "tests/confirm/test_confirm.py::test_a_suspect_in_a_helper_of_another_file",
    "Nothing.": "tests/sandbox/test_safety.py::test_nothing_is_left_behind",
    "With a process namespace": "tests/sandbox/test_lacking.py::test_daemons_end_with_a_linter_that_is_ended "
    "tests/sandbox/test_lacking.py::test_nothing_outlives_the_run_and_the_others_are_checked",
    "Only who kills that": "tests/sandbox/test_lacking.py::test_who_kills_the_keeper_by_hand_is_left_with_what_it_kept",
    "The temporary folder is removed": "tests/sandbox/test_folders.py::"
    "test_folders_beyond_the_longest_path_are_removed tests/sandbox/test_folders.py::"
    "test_folders_that_allow_nothing_are_removed "
    "tests/sandbox/test_folders.py::test_links_are_removed_and_not_followed",
    "Results are kept": "tests/confirm/test_outcome_cache.py::test_the_settings_say_where_outcomes_are_kept",
    "It is made by the linter": "tests/sources/test_cache_folder.py::test_an_empty_folder_of_that_name_is_taken "
    "tests/sources/test_cache_folder.py::test_a_folder_that_is_not_ours_is_left_alone_and_said_so",
    "Nothing is done through a link": "tests/sources/test_cache_folder.py::test_no_link_in_a_cache_is_followed",
    "Links on the way": "tests/sources/test_cache_folder.py::test_a_link_to_the_named_folder_is_followed",
    "Only results are ever": "tests/sources/test_cache_folder.py::test_pruning_removes_nothing_that_is_not_an_entry",
    "`theria-lint clean` removes": "tests/commands/test_named_commands.py::"
    "test_clean_removes_what_was_kept_and_says_so "
    "tests/commands/test_named_commands.py::test_clean_removes_no_entry_that_a_project_has_brought "
    "tests/commands/test_named_commands.py::test_clean_leaves_what_is_not_provably_ours",
    "A configuration file may name": "tests/sources/test_cache_folder.py::"
    "test_the_configuration_takes_no_folder_out_of_the_project "
    "tests/cli/test_config.py::test_what_cannot_be_extended_is_one_sentence",
    "So it is with": "tests/sources/test_cache_folder.py::test_nor_a_baseline_or_rules_out_of_it",
    "Each entry is signed": "tests/sources/test_cache_folder.py::test_an_entry_with_other_bytes_is_none",
    "It lies in the folder itself": "tests/sources/test_cache_folder.py::"
    "test_results_that_a_project_brings_do_not_count tests/sources/test_cache_folder.py::"
    "test_results_in_what_is_linted_from_elsewhere_do_not_count",
    "A folder outside the project": "tests/sources/test_cache_folder.py::test_a_folder_outside_is_restored_as_a_whole",
    "An entry holds no path": "tests/confirm/test_shared_cache.py::test_a_second_folder_gives_the_same_results",
    "One that is not of the shape": "tests/sources/test_cache_folder.py::test_an_entry_of_another_shape_is_none "
    "tests/sources/test_cache_folder.py::test_what_another_version_wrote_is_not_read",
    "On a GPU the kernels of our": "tests/confirm/test_outcome_cache.py::"
    "test_kernels_are_kept_for_the_interpreter_that_compiled_them",
    "A process that runs nothing": "tests/worker/test_kernel_cache.py::test_what_a_worker_compiles_on_a_gpu_is_kept "
    "tests/worker/test_kernel_cache.py::test_a_job_finds_the_kernels_that_were_kept",
    "Where a system cannot open": "tests/sources/test_cache_folder.py::"
    "test_where_links_would_be_followed_nothing_is_kept",
    "File names, symbols": "tests/report/test_hostile_output.py::test_a_run_over_files_of_any_name_is_inert",
    "In no format": "tests/report/test_hostile_output.py::test_a_report_is_inert",
    "In JSON, SARIF": "tests/report/test_hostile_output.py::test_json_holds_the_texts_as_they_are",
    "A patch (`--diff`)": "tests/report/test_hostile_output.py::test_a_patch_is_inert",
    "No link in the working directory": "tests/sources/test_written_files.py::test_no_link_leads_out_of_the_folder",
    "`--fix` writes no file": "tests/cli/test_fix_option.py::"
    "test_what_git_cannot_restore_is_left_alone_unless_a_backup_is_kept tests/cli/test_fix_option.py::"
    "test_nothing_is_written_through_a_link_or_out_of_what_was_named tests/cli/test_fix_option.py::"
    "test_a_file_that_changes_meanwhile_is_left_alone",
    "Git is asked": "tests/cli/test_fix_option.py::test_a_repository_runs_nothing_when_it_is_asked",
    "A report that cannot be written": "tests/report/test_hostile_output.py::test_a_full_disk_is_one_sentence "
    "tests/report/test_hostile_output.py::test_a_file_that_a_full_disk_cannot_hold_is_one_sentence",
    "With `--executor` the code runs": "tests/confirm/test_executors.py::"
    "test_a_worker_that_is_killed_costs_nothing_but_time "
    "tests/confirm/test_executors.py::test_slurm_runs_what_this_machine_runs",
    "What one of them lacks": "tests/confirm/test_executors.py::test_what_a_worker_lacks_is_said_of_all",
    "A worker of the cluster that is killed": "tests/confirm/test_executors.py::"
    "test_a_worker_that_is_killed_costs_nothing_but_time",
    "A worker that has another": "tests/confirm/test_executors.py::test_another_version_is_refused_by_name "
    "tests/confirm/test_executors.py::test_a_worker_unlike_the_first_is_refused_by_name",
    "So is a job of which": "tests/confirm/test_executors.py::test_a_file_that_is_another_one_there_is_not_run",
    "Of what a target has read": "tests/confirm/test_executors.py::test_an_outcome_of_other_bytes_does_not_count",
    "Answers are held against": "tests/confirm/test_executors.py::"
    "test_an_answer_that_is_none_costs_the_job_that_was_asked",
    "No file of a project names": "tests/confirm/test_executors.py::test_no_file_says_who_runs_code_here",
    "**The linter's own machine": "tests/confirm/test_interpreters.py::"
    "test_the_first_of_the_users_own_that_has_torch_is_taken "
    "tests/confirm/test_interpreters.py::test_the_user_may_name_any",
    "**The linted project is not": "tests/cli/test_own_modules.py::"
    "test_the_module_and_the_command_import_nothing_from_the_working_directory "
    "tests/cli/test_own_modules.py::test_with_the_safe_path_nothing_of_the_working_directory_is_imported_at_all",
    "Links that lead out": "tests/sources/test_discovery.py::"
    "test_a_link_out_of_the_directory_is_not_followed_unless_it_is_named tests/sources/test_discovery.py::"
    "test_a_module_that_is_a_link_out_of_its_package_is_not_read "
    "tests/sources/test_discovery.py::test_no_pipe_is_opened_whatever_its_name",
    "**Nor is its configuration": "tests/confirm/test_interpreters.py::"
    "test_an_interpreter_that_the_configuration_names_needs_trust tests/confirm/test_interpreters.py::"
    "test_the_users_own_may_be_named_by_the_configuration",
    "Adapters are files": "tests/sandbox/test_readable_files.py::"
    "test_an_adapter_outside_the_project_or_hidden_is_refused",
    "A configuration that is a link": "tests/cli/test_config.py::"
    "test_a_configuration_that_is_a_link_out_of_its_folder_is_not_shown",
    "[Rules of its own]": "tests/cli/test_own_modules.py::test_no_code_beside_a_rule_is_run "
    "tests/rules/test_rules.py::test_a_rule_that_is_a_link_out_of_its_rule_path_is_refused",
    "Patterns are matched": "tests/sources/test_patterns.py::test_no_pattern_makes_a_path_be_looked_at_again_and_again",
    "**Nor is its environment": "tests/confirm/test_interpreters.py::test_the_environment_of_the_project_needs_trust "
    "tests/confirm/test_interpreters.py::test_nothing_of_the_project_runs_before_it_is_trusted",
    "What you have trusted": "tests/confirm/test_interpreters.py::test_trust_is_for_one_project_and_one_program",
    "It is kept in your own": "tests/confirm/test_interpreters.py::test_a_project_cannot_trust_itself",
    "In an editor the same": "tests/lsp/test_server_parts.py::test_what_a_client_sets_is_validated "
    "tests/lsp/test_language_server.py::test_an_opened_text_is_checked_whatever_is_on_the_disk "
    "tests/lsp/test_language_server_runs.py::test_opening_a_folder_runs_nothing",
    "A file is at most 10 MB": "tests/sources/test_reading.py::test_a_huge_file_is_an_error_and_is_not_read "
    "tests/static/test_growth.py::test_a_file_beyond_the_limits_is_reported "
    "tests/static/test_growth.py::test_targets_that_all_run_the_same_many_functions_are_reported "
    "tests/static/test_growth.py::test_a_file_that_takes_too_long_is_reported_and_the_others_are_checked "
    "tests/static/test_growth.py::test_in_a_thread_of_the_language_server_the_limit_holds_as_well",
    "Of ignore files": "tests/sources/test_discovery.py::test_of_all_ignore_files_together_a_megabyte_is_taken "
    "tests/sources/test_discovery.py::test_an_ignore_file_is_no_link_and_of_a_length_that_somebody_writes",
    "The worker tries each": "tests/sandbox/test_safety.py::test_the_worker_says_what_protects "
    "tests/sandbox/test_surroundings.py::test_verbose_prints_the_protections",
    "Nothing is refused for want": "tests/sandbox/test_lacking.py::"
    "test_nothing_outlives_the_run_and_the_others_are_checked",
    "A file can lie about itself": "tests/worker/test_forging.py::test_a_file_says_nothing_of_what_it_does_not_run",
    "A target that imitates": "tests/worker/test_forging.py::test_a_probe_speaks_for_its_own_target",
    "Neither can speak": "tests/worker/test_forging.py::test_a_file_says_nothing_of_what_it_does_not_run",
    "What it said is kept": "tests/confirm/test_outcome_cache.py::test_a_change_of_anything_that_was_read_counts "
    "tests/confirm/test_outcome_cache.py::test_a_warm_run_asks_no_worker_and_says_the_same",
    "Where no file system": "tests/sandbox/test_folders.py::test_a_removed_file_that_is_held_open_is_not_counted",
    "Where there is neither": "tests/sandbox/test_folders.py::test_what_starts_faster_than_it_is_ended_is_given_up",
    "On a GPU the driver's": "tests/sandbox/test_surroundings.py::test_on_a_gpu_more_is_open",
    "On a GPU, CUDA has": "tests/sandbox/test_surroundings.py::test_on_a_gpu_more_is_open "
    "tests/sandbox/test_surroundings.py::test_the_filter_refuses_what_the_page_lists",
    "What the project itself keeps": "tests/sandbox/test_readable_files.py::"
    "test_a_probe_reads_nothing_hidden_and_follows_no_link_out "
    "tests/sandbox/test_surroundings.py::test_the_surroundings_are_as_the_page_says",
    "Of a project with more": "tests/sandbox/test_readable_files.py::"
    "test_a_project_with_too_many_entries_is_readable_as_far_as_they_are_looked_at "
    "tests/sandbox/test_readable_files.py::test_a_probe_reads_nothing_hidden_and_follows_no_link_out",
    "A hard link": "tests/sandbox/test_surroundings.py::test_the_surroundings_are_as_the_page_says",
    "A target can lock": "tests/sandbox/test_surroundings.py::test_the_surroundings_are_as_the_page_says "
    "tests/sandbox/test_surroundings.py::test_a_lock_ends_with_the_target_that_holds_it",
    "The temporary folder is memory": "tests/sandbox/test_surroundings.py::test_the_surroundings_are_as_the_page_says",
}


def list_sentences() -> list[str]:
    """The sentences of the page: rows of its table as they are, without headings and the block of who runs what."""
    text = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
    text = re.sub(r"\n(    [^\n]*\n)+", "\n", text)
    found = []
    for part in re.split(r"\n\s*\n|\n(?=- )|\n(?=\|)|\n(?=#)", text):
        block = " ".join(part.split())
        if block.startswith(("#", "| ---", "| name")):
            continue
        is_row = block.startswith("|")
        found += [block] if is_row else re.split(r"(?<=[.!?])\s+(?=[A-Z`*\[])", block.removeprefix("- "))
    return [sentence for sentence in found if sentence]


@cache
def list_tests(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("sentence", list_sentences(), ids=lambda sentence: sentence[:30])
def test_a_sentence_has_a_test(sentence: str) -> None:
    begun = [start for start in (*TESTS, *WITHOUT) if sentence.startswith(start)]
    assert begun, f"no test is named for: {sentence}"


@pytest.mark.parametrize("start", [*TESTS, *WITHOUT])
def test_an_entry_has_a_sentence_and_names_tests_that_there_are(start: str) -> None:
    assert any(sentence.startswith(start) for sentence in list_sentences())
    for named in TESTS.get(start, "").split():
        path, _, name = named.partition("::")
        assert name in list_tests(path), named
