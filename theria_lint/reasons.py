"""The codes of reasons: why a finding, a target or a run is as it is said to be, and what is noted beside it.

A reason is its code and data; `theria_lint.report.sentences` puts it into words, ``docs/reasons.md`` explains the
codes. What decides something asks for the code, never for the words. What a measurement found has the codes of
`theria.verdicts.Ground`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from theria.verdicts import CodedError, Ground, Reason, find_coded_error, holds_code, iter_reasons, iter_texts

__all__ = [
    "FIELDS",
    "CodedError",
    "Ground",
    "Reason",
    "ReasonCode",
    "find_coded_error",
    "holds_code",
    "iter_reasons",
    "iter_texts",
]


class ReasonCode(StrEnum):
    """Every code of the linter's own."""

    # Nothing was run.
    NOT_CONFIRMED = "not_confirmed"
    NOTEBOOK = "notebook"
    STANDARD_INPUT = "standard_input"
    CONFIRMING_OFF = "confirming_off"
    UNSAVED = "unsaved"
    OUTSIDE_WORKSPACE = "outside_workspace"
    AS_LAST_SAVED = "as_last_saved"
    NO_WORKER = "no_worker"
    NO_TORCH = "no_torch"
    INTERPRETER_WITHOUT_TORCH = "interpreter_without_torch"
    INTERPRETER_UNTRUSTED = "interpreter_untrusted"
    INTERPRETER_TRUSTED = "interpreter_trusted"
    INTERPRETER_FAILS = "interpreter_fails"
    INTERPRETER_UNFIT = "interpreter_unfit"
    TORCH_NOT_IMPORTED = "torch_not_imported"
    NO_CUDA = "no_cuda"
    NO_SUCH_GPU = "no_such_gpu"
    NO_GREETING = "no_greeting"
    NO_SENSE = "no_sense"
    EXECUTOR_EXTRA = "executor_extra"
    EXECUTOR_UNREACHABLE = "executor_unreachable"
    EXECUTOR_SILENT = "executor_silent"
    EXECUTOR_FAILS = "executor_fails"
    WORKER_DIFFERS = "worker_differs"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"
    OUT_OF_BUDGET = "out_of_budget"
    NO_TARGET = "no_target"

    # A file cannot be read, or cannot be checked.
    FILE_UNREADABLE = "file_unreadable"
    FOLDER_UNREADABLE = "folder_unreadable"
    FILE_TOO_LARGE = "file_too_large"
    NOT_A_FILE = "not_a_file"
    LINK_OUT = "link_out"
    ENCODING_UNKNOWN = "encoding_unknown"
    ENCODING_WRONG = "encoding_wrong"
    NOT_JSON = "not_json"
    NOT_A_NOTEBOOK = "not_a_notebook"
    NOT_PARSED = "not_parsed"
    NESTED_TOO_DEEPLY = "nested_too_deeply"
    PARSER_CRASHED = "parser_crashed"
    TOO_SLOW_TO_CHECK = "too_slow_to_check"
    TOO_MANY_ANCESTORS = "too_many_ancestors"
    TOO_ENTANGLED = "too_entangled"
    TOO_MANY_PATTERNS = "too_many_patterns"
    INTERNAL_ERROR = "internal_error"
    CALL_OF_ANOTHER = "call_of_another"
    CALL_MALFORMED = "call_malformed"
    TARGET_NOT_DEFINED = "target_not_defined"
    IGNORES_NO_RULE = "ignores_no_rule"
    IGNORES_NOTHING = "ignores_nothing"
    IGNORES_HALF = "ignores_half"

    # The process of a target came to a bad end.
    WORKER_ENDED = "worker_ended"
    WORKER_LOST = "worker_lost"
    FILE_DIFFERS = "file_differs"
    NOT_REWRITTEN = "not_rewritten"
    NONSENSE_ANSWER = "nonsense_answer"
    TOO_MANY_ANSWERS = "too_many_answers"
    WRITES_TOO_MUCH = "writes_too_much"
    IMPORT_TOO_SLOW = "import_too_slow"
    IMPORT_EXITS = "import_exits"
    IMPORT_RAISES = "import_raises"
    IMPORT_ENDS_PROCESS = "import_ends_process"
    PACKAGE_MISSING = "package_missing"
    FILE_CHANGED = "file_changed"
    NOT_DEFINED = "not_defined"
    OUT_OF_MEMORY = "out_of_memory"
    EXITS = "exits"
    PROBE_RAISES = "probe_raises"
    DEVICE_LOST = "device_lost"
    PROBE_TOO_SLOW = "probe_too_slow"
    ENDS_PROCESS = "ends_process"
    STARTS_PROCESS = "starts_process"
    USES_NETWORK = "uses_network"
    SIGNALS_PROCESS = "signals_process"
    WRITES_OUTSIDE = "writes_outside"

    # No way to call a target worked.
    NOT_CALLABLE = "not_callable"
    OUTSIDE_GRAPH_ONLY = "outside_graph_only"
    NOTHING_TO_TRY = "nothing_to_try"
    SEARCH_TOO_SLOW = "search_too_slow"
    ADAPTER_FAILS = "adapter_fails"
    ADAPTER_UNFIT = "adapter_unfit"
    WANTS_GPU = "wants_gpu"
    OUTPUT_NOT_FINITE = "output_not_finite"
    GRADIENTS_NOT_FINITE = "gradients_not_finite"
    MEMORY_NOT_WRITTEN = "memory_not_written"
    SEQUENCES_MIXED = "sequences_mixed"
    INPUTS_IGNORED = "inputs_ignored"
    POSITIONS_APART = "positions_apart"
    NO_OUTPUT = "no_output"
    NOTHING_IN_GRAPH = "nothing_in_graph"
    NOTHING_TO_DIFFERENTIATE = "nothing_to_differentiate"
    NO_TENSOR_BY_POSITION = "no_tensor_by_position"
    NO_TENSOR_PARAMETER = "no_tensor_parameter"
    NO_QKV_PARAMETERS = "no_qkv_parameters"
    NO_TENSOR_FROM_CALLER = "no_tensor_from_caller"
    NOT_A_FUNCTION = "not_a_function"
    EXITS_WITH = "exits_with"
    NO_SUCH_ENTRY = "no_such_entry"
    FORWARD_CHANGES = "forward_changes"
    TRITON_GAP = "triton_gap"
    ASSEMBLY_UNKNOWN = "assembly_unknown"
    OUTSIDE_TENSORS = "outside_tensors"

    # A measurement was made, and this is said of it.
    ARGUMENTS_MISFIT = "arguments_misfit"
    NOT_THE_REFERENCE = "not_the_reference"
    FORWARD_JUMPS = "forward_jumps"
    SAFE_IN_INPUTS = "safe_in_inputs"
    PARAMETERS_RAISE = "parameters_raise"
    OTHERWISE_IN_PARAMETERS = "otherwise_in_parameters"
    SAFE_OTHERWISE = "safe_otherwise"
    IN_TRAINING_DTYPE = "in_training_dtype"
    CPU_PATH_ONLY = "cpu_path_only"
    WITHOUT_PACKAGES = "without_packages"
    OF_OUTPUT = "of_output"
    DETACHED_OUTPUTS = "detached_outputs"
    NOTHING_MEASURED = "nothing_measured"
    NOT_ALL_MEASURED = "not_all_measured"

    # Notes of a run.
    MEASURED = "measured"
    SEEN_ON = "seen_on"
    OUT_OF_TIME = "out_of_time"
    NOT_PROBED_ON = "not_probed_on"
    STRIDES_MATTER = "strides_matter"
    DTYPE_VERDICT = "dtype_verdict"
    PARAMETERS_VERDICT = "parameters_verdict"
    MATH_PATH = "math_path"
    TORCH_BUG = "torch_bug"
    SHIMS_USED = "shims_used"
    GPU_QUERIES = "gpu_queries"
    CALLED_AS_RECORDED = "called_as_recorded"
    CALLED_AS_SHOWN = "called_as_shown"
    CALLS_UNUSED = "calls_unused"
    NOT_RECORDED = "not_recorded"
    STALE_CALL = "stale_call"
    LOST_ARGUMENT = "lost_argument"

    # An argument of a call could not be kept, or cannot be made again.
    TOO_DEEP = "too_deep"
    LAYOUT_NOT_KEPT = "layout_not_kept"
    NUMBERS_NOT_FINITE = "numbers_not_finite"
    TENSOR_TOO_LARGE = "tensor_too_large"
    OBJECT_NOT_KEPT = "object_not_kept"
    LOCAL_NAME = "local_name"
    BUILT_UNSEEN = "built_unseen"
    CALLS_UNSEEN = "calls_unseen"
    NOT_OF_KIND = "not_of_kind"
    NO_SUCH_NAME = "no_such_name"
    TENSORS_UNREADABLE = "tensors_unreadable"
    NO_TENSOR_GIVEN = "no_tensor_given"

    # What stands in for what the machine lacks.
    CUDA_ANSWERS = "cuda_answers"
    ANSWERS_AS_GPU = "answers_as_gpu"
    TENSORS_ON_CPU = "tensors_on_cpu"
    OPERATOR_ON_CPU = "operator_on_cpu"
    NO_CODEGEN = "no_codegen"
    NO_PROGRAMS = "no_programs"
    TRITON_DRIVER = "triton_driver"
    BLOCK_POINTERS = "block_pointers"
    BFLOAT16_ARITHMETIC = "bfloat16_arithmetic"
    NUMPY_LIBRARY = "numpy_library"
    NUMPY_ASSEMBLY = "numpy_assembly"
    FIRST_AUTOTUNED = "first_autotuned"
    FULL_PRECISION = "full_precision"

    # An answer of a process is none.
    ANSWER_NOT_JSON = "answer_not_json"
    ANSWER_TOO_DEEP = "answer_too_deep"
    ANSWER_TOO_LONG = "answer_too_long"
    ANSWER_WITHOUT = "answer_without"
    ANSWER_OF_KIND = "answer_of_kind"
    ANSWER_UNKNOWN_WORD = "answer_unknown_word"
    ANSWER_UNASKED = "answer_unasked"
    ANSWER_BEYOND_FILE = "answer_beyond_file"
    ANSWER_BAD_REASON = "answer_bad_reason"

    # What a file writes is too much.
    FOLDERS_TOO_DEEP = "folders_too_deep"
    TOO_MANY_FILES = "too_many_files"
    TOO_MUCH_DISK = "too_much_disk"
    FOLDERS_CLOSED = "folders_closed"

    # A protection does not hold, or not wholly.
    SYSTEM_REFUSES = "system_refuses"
    PRIVILEGES_KEPT = "privileges_kept"
    PROCESSES_NOT_ASKED = "processes_not_asked"
    OLD_LANDLOCK = "old_landlock"
    NO_NAMESPACES = "no_namespaces"
    FOLDERS_WATCHED = "folders_watched"
    NOT_TRIED = "not_tried"

    # Notes about the whole run.
    NO_FILES = "no_files"
    TRUST_GIVEN = "trust_given"
    NOTHING_TO_TRUST = "nothing_to_trust"
    EXCLUDED = "excluded"
    NOT_HEEDED = "not_heeded"
    LINKS_OUT = "links_out"
    CACHE_FOREIGN = "cache_foreign"
    LEFT_OUT = "left_out"
    BASELINE_STALE = "baseline_stale"
    UNSAFE_UNSELECTED = "unsafe_unselected"
    CALL_FILE_UNUSED = "call_file_unused"

    # Rulings on a suspect.
    TARGET_INCONCLUSIVE = "target_inconclusive"
    TARGET_NOT_RUN = "target_not_run"
    NOT_REACHED = "not_reached"
    NOT_REACHED_IN_TIME = "not_reached_in_time"
    NOT_REACHED_BEFORE_FAILURE = "not_reached_before_failure"
    SAFE_WITH_IT = "safe_with_it"
    FUSED_KERNEL_NOT_MET = "fused_kernel_not_met"
    SAFE_OFF_GPU = "safe_off_gpu"
    UNSAFE_WITH_IT = "unsafe_with_it"
    UNSAFE_OTHERWISE_WITHOUT_IT = "unsafe_otherwise_without_it"
    WORSE_WITH_IT = "worse_with_it"
    CHANGES_NOTHING = "changes_nothing"
    UNSAFE_BESIDE = "unsafe_beside"
    SAFE_BESIDE = "safe_beside"
    ENOUGH_TO_REMOVE = "enough_to_remove"
    VARIANT_DOES_NOT_RUN = "variant_does_not_run"
    SAFE_WITHOUT_OTHERS = "safe_without_others"
    SAFE_WITHOUT_THE_OTHERS = "safe_without_the_others"
    NOTHING_TO_COMPARE = "nothing_to_compare"
    UNSAFE_WITHOUT_OTHERS = "unsafe_without_others"
    MAY_BE_HIDDEN = "may_be_hidden"
    SUBSTITUTED = "substituted"
    UNSAFE_TOGETHER = "unsafe_together"
    CANCELLED = "cancelled"
    BLAMED_ELSEWHERE = "blamed_elsewhere"


class Field(StrEnum):
    """What may stand in a field of a reason's data."""

    TEXT = "text"
    OPTIONAL_TEXT = "text or null"
    TEXTS = "list of texts"
    NUMBER = "number"
    OPTIONAL_NUMBER = "number or null"
    FLAG = "true or false"
    REASON = "reason"
    REASONS = "list of reasons"
    VALUES = "values by name"
    SUSPECTS = "list of suspects (rule, line, path)"
    CHANGES = "list of blocks (block, before, after)"


_KIND = {"kind": Field.TEXT}
_NAME = {"name": Field.TEXT}
_MOST = {"most": Field.NUMBER}
_ERROR = {"kind": Field.TEXT, "message": Field.TEXT}
_EXIT = {"signal": Field.OPTIONAL_TEXT, "exit_code": Field.OPTIONAL_NUMBER}
_WHY = {"reason": Field.REASON}
_SAID = {"message": Field.TEXT}
_FILE = {"file": Field.TEXT}
_INTERPRETER = {"interpreter": Field.TEXT}
_EXECUTOR = {"executor": Field.TEXT}
_VERDICT = {"target": Field.TEXT, "verdict": Field.TEXT}
_TARGET = {"target": Field.TEXT, **_WHY}
_UNSAFE = {**_VERDICT, **_WHY}
_COMPARED = {**_UNSAFE, "verdict_without": Field.TEXT, "changes": Field.CHANGES}
_OTHERS = {"others": Field.SUSPECTS}
_FIRST = {"gradients": Field.TEXTS, "gradient_error": Field.OPTIONAL_NUMBER}
_NOT_REACHED = {"targets": Field.TEXTS}
_DTYPE = {"dtype": Field.TEXT}

FIELDS: Mapping[str, Mapping[str, Field]] = {
    **{code: {} for code in (*Ground, *ReasonCode)},
    Ground.ALL_AGREE: {"largest_error": Field.OPTIONAL_NUMBER},
    Ground.SIGNAL_LOST: {"blocks": Field.TEXTS, "unclear": Field.FLAG, **_FIRST},
    Ground.BLOCKS_LOST: {
        "missing": Field.TEXTS,
        "wrong": Field.TEXTS,
        "nan": Field.TEXTS,
        "infinite": Field.TEXTS,
        "error": Field.OPTIONAL_NUMBER,
        **_FIRST,
    },
    Ground.NODE_FOUND: {**_KIND, "operator": Field.TEXT, "file": Field.OPTIONAL_TEXT, "line": Field.OPTIONAL_NUMBER},
    Ground.CURVATURE_LOST: {"missing": Field.TEXTS, "wrong": Field.TEXTS, "share": Field.OPTIONAL_NUMBER},
    Ground.GRADIENT_WRONG: {"error": Field.OPTIONAL_NUMBER},
    Ground.ROUTE_LOST: {"route": Field.TEXT, "variables": Field.TEXTS},
    Ground.DIFFERENTIATION_RAISES: {
        "order": Field.NUMBER,
        "once": Field.FLAG,
        "routes": Field.TEXTS,
        "message": Field.OPTIONAL_TEXT,
        "lost": Field.OPTIONAL_NUMBER,
        "silent": Field.TEXTS,
    },
    Ground.NEVER_DIFFERENTIABLE: {"message": Field.TEXT},
    Ground.INPUT_UNUSED: {"inputs": Field.TEXTS, "norm": Field.OPTIONAL_NUMBER},
    Ground.BACKWARD_NOT_RUNNABLE: _WHY,
    Ground.NO_DEPENDENCE: {"inputs": Field.TEXTS},
    Ground.ORACLE_DOUBTFUL: {"judged": Field.TEXTS},
    Ground.RAISED: _ERROR,
    Ground.OTHER_CONFIGURATION: {"configuration": Field.TEXT, "verdict": Field.TEXT},
    Ground.NOT_PROBED: {"configuration": Field.TEXT, **_ERROR},
    ReasonCode.AS_LAST_SAVED: _WHY,
    ReasonCode.NO_WORKER: {**_WHY, "looked_at": Field.REASONS},
    ReasonCode.INTERPRETER_WITHOUT_TORCH: _INTERPRETER,
    ReasonCode.INTERPRETER_UNTRUSTED: _INTERPRETER,
    ReasonCode.INTERPRETER_TRUSTED: _INTERPRETER,
    ReasonCode.INTERPRETER_FAILS: {**_INTERPRETER, "message": Field.TEXT},
    ReasonCode.INTERPRETER_UNFIT: {**_INTERPRETER, **_WHY},
    ReasonCode.TORCH_NOT_IMPORTED: _ERROR,
    ReasonCode.NO_SUCH_GPU: {"device": Field.TEXT, "count": Field.NUMBER},
    ReasonCode.NO_SENSE: _WHY,
    ReasonCode.OUT_OF_BUDGET: {"seconds": Field.NUMBER},
    ReasonCode.LEFT_OUT: {"seconds": Field.NUMBER, "unmeasured": Field.TEXTS, "undecided": Field.TEXTS},
    ReasonCode.EXECUTOR_EXTRA: {**_EXECUTOR, "extra": Field.TEXT, **_SAID},
    ReasonCode.EXECUTOR_UNREACHABLE: {**_EXECUTOR, **_SAID},
    ReasonCode.EXECUTOR_SILENT: {**_EXECUTOR, "seconds": Field.NUMBER},
    ReasonCode.EXECUTOR_FAILS: {**_EXECUTOR, **_ERROR},
    ReasonCode.WORKER_DIFFERS: {"worker": Field.TEXT, "what": Field.TEXT, "there": Field.TEXT, "here": Field.TEXT},
    ReasonCode.WORKER_LOST: {**_EXECUTOR, **_ERROR},
    ReasonCode.FILE_DIFFERS: {"worker": Field.TEXT, **_FILE},
    ReasonCode.NOT_REWRITTEN: _ERROR,
    ReasonCode.NONSENSE_ANSWER: _WHY,
    ReasonCode.WRITES_TOO_MUCH: _WHY,
    ReasonCode.IMPORT_TOO_SLOW: {"seconds": Field.NUMBER},
    ReasonCode.IMPORT_RAISES: _ERROR,
    ReasonCode.IMPORT_ENDS_PROCESS: _EXIT,
    ReasonCode.PACKAGE_MISSING: {"package": Field.TEXT, "interpreter": Field.TEXT},
    ReasonCode.FILE_CHANGED: {"file": Field.TEXT},
    ReasonCode.NOT_DEFINED: {"symbol": Field.TEXT},
    ReasonCode.OUT_OF_MEMORY: {"gib": Field.NUMBER},
    ReasonCode.PROBE_RAISES: _ERROR,
    ReasonCode.DEVICE_LOST: _ERROR,
    ReasonCode.PROBE_TOO_SLOW: {"seconds": Field.NUMBER},
    ReasonCode.ENDS_PROCESS: _EXIT,
    ReasonCode.STARTS_PROCESS: _WHY,
    ReasonCode.USES_NETWORK: _WHY,
    ReasonCode.SIGNALS_PROCESS: _WHY,
    ReasonCode.WRITES_OUTSIDE: _WHY,
    ReasonCode.NOT_CALLABLE: {
        **_WHY,
        "target": Field.OPTIONAL_TEXT,
        "guessed": Field.TEXTS,
        "values": Field.VALUES,
        "is_class": Field.FLAG,
        "has_layout": Field.FLAG,
    },
    ReasonCode.ADAPTER_FAILS: {"file": Field.TEXT, "line": Field.OPTIONAL_NUMBER, **_ERROR},
    ReasonCode.ADAPTER_UNFIT: {"file": Field.TEXT, "line": Field.NUMBER, **_WHY},
    ReasonCode.PARAMETERS_RAISE: _WHY,
    ReasonCode.SAFE_IN_INPUTS: {**_WHY, "inputs": Field.TEXTS},
    ReasonCode.OTHERWISE_IN_PARAMETERS: {**_WHY, "verdict": Field.TEXT},
    ReasonCode.SAFE_OTHERWISE: {**_WHY, "configurations": Field.TEXTS},
    ReasonCode.NOT_ALL_MEASURED: {"configurations": Field.TEXTS, "safe": Field.TEXTS},
    ReasonCode.IN_TRAINING_DTYPE: {**_DTYPE, **_WHY},
    ReasonCode.CPU_PATH_ONLY: {**_WHY, "refusal": Field.REASON},
    ReasonCode.WITHOUT_PACKAGES: {**_WHY, "packages": Field.TEXTS},
    ReasonCode.OF_OUTPUT: {**_WHY, "output": Field.NUMBER},
    ReasonCode.DETACHED_OUTPUTS: {**_WHY, "outputs": Field.TEXTS},
    ReasonCode.MEASURED: {
        "inputs": Field.TEXTS,
        "constants": Field.TEXTS,
        "discrete": Field.TEXTS,
        "outputs": Field.TEXTS,
        "outside": Field.TEXTS,
        "dtypes": Field.TEXTS,
    },
    ReasonCode.SEEN_ON: {"configuration": Field.TEXT},
    ReasonCode.NOT_PROBED_ON: {"configuration": Field.TEXT, **_WHY},
    ReasonCode.DTYPE_VERDICT: {**_DTYPE, "verdict": Field.TEXT, "message": Field.OPTIONAL_TEXT},
    ReasonCode.PARAMETERS_VERDICT: {"name": Field.TEXT, "verdict": Field.TEXT},
    ReasonCode.TORCH_BUG: {"configuration": Field.TEXT},
    ReasonCode.CALLED_AS_RECORDED: {"callers": Field.TEXTS, "smaller": Field.TEXTS},
    ReasonCode.CALLED_AS_SHOWN: {"callers": Field.TEXTS, "smaller": Field.TEXTS},
    ReasonCode.CALLS_UNUSED: {"reason": Field.REASON},
    ReasonCode.STALE_CALL: {"caller": Field.TEXT, "message": Field.TEXT},
    ReasonCode.LOST_ARGUMENT: _WHY,
    ReasonCode.NO_OUTPUT: _KIND,
    ReasonCode.NOT_A_FUNCTION: _KIND,
    ReasonCode.EXITS_WITH: {"exit_code": Field.TEXT},
    ReasonCode.NO_SUCH_ENTRY: _NAME,
    ReasonCode.TRITON_GAP: _NAME,
    ReasonCode.ASSEMBLY_UNKNOWN: {"assembly": Field.TEXT},
    ReasonCode.OUTSIDE_TENSORS: {"access": Field.TEXT},
    ReasonCode.LAYOUT_NOT_KEPT: {"layout": Field.TEXT, **_DTYPE},
    ReasonCode.TENSOR_TOO_LARGE: {"numbers": Field.NUMBER},
    ReasonCode.OBJECT_NOT_KEPT: _KIND,
    ReasonCode.LOCAL_NAME: {**_KIND, **_NAME},
    ReasonCode.BUILT_UNSEEN: _KIND,
    ReasonCode.CALLS_UNSEEN: _KIND,
    ReasonCode.NOT_OF_KIND: {**_NAME, **_KIND},
    ReasonCode.NO_SUCH_NAME: {**_KIND, **_NAME},
    ReasonCode.TENSORS_UNREADABLE: _KIND,
    ReasonCode.SHIMS_USED: {"place": Field.TEXT, "shims": Field.REASONS},
    ReasonCode.ANSWERS_AS_GPU: {"query": Field.TEXT},
    ReasonCode.NO_CODEGEN: {"backend": Field.TEXT},
    ReasonCode.ANSWER_TOO_LONG: {**_KIND, "most": Field.NUMBER},
    ReasonCode.ANSWER_WITHOUT: {"names": Field.TEXTS},
    ReasonCode.ANSWER_OF_KIND: {**_KIND, "wanted": Field.TEXT},
    ReasonCode.ANSWER_UNKNOWN_WORD: {"known": Field.TEXTS},
    ReasonCode.ANSWER_UNASKED: _KIND,
    ReasonCode.FOLDERS_TOO_DEEP: _MOST,
    ReasonCode.TOO_MANY_FILES: _MOST,
    ReasonCode.TOO_MUCH_DISK: {"mib": Field.NUMBER},
    ReasonCode.SYSTEM_REFUSES: _SAID,
    ReasonCode.PROCESSES_NOT_ASKED: _SAID,
    ReasonCode.FOLDERS_WATCHED: {"mib": Field.NUMBER, "files": Field.NUMBER},
    ReasonCode.GPU_QUERIES: {"queries": Field.TEXTS},
    ReasonCode.EXCLUDED: _FILE,
    ReasonCode.TRUST_GIVEN: {**_INTERPRETER, "root": Field.TEXT},
    ReasonCode.FILE_UNREADABLE: _SAID,
    ReasonCode.FOLDER_UNREADABLE: _SAID,
    ReasonCode.FILE_TOO_LARGE: {"size": Field.NUMBER, "largest": Field.NUMBER},
    ReasonCode.ENCODING_UNKNOWN: {"encoding": Field.TEXT},
    ReasonCode.ENCODING_WRONG: {"encoding": Field.TEXT},
    ReasonCode.NOT_A_NOTEBOOK: _SAID,
    ReasonCode.NOT_PARSED: _SAID,
    ReasonCode.TOO_SLOW_TO_CHECK: {"seconds": Field.NUMBER},
    ReasonCode.TOO_MANY_ANCESTORS: {"most": Field.NUMBER},
    ReasonCode.TOO_ENTANGLED: {"most": Field.NUMBER},
    ReasonCode.TOO_MANY_PATTERNS: {"largest": Field.NUMBER},
    ReasonCode.INTERNAL_ERROR: _ERROR,
    ReasonCode.CALL_OF_ANOTHER: {"symbol": Field.TEXT, **_FILE},
    ReasonCode.CALL_MALFORMED: {"part": Field.TEXT},
    ReasonCode.TARGET_NOT_DEFINED: {"symbol": Field.TEXT, "target": Field.TEXT},
    ReasonCode.IGNORES_NO_RULE: {"rule": Field.TEXT, "known": Field.TEXTS, "names": Field.TEXTS},
    ReasonCode.IGNORES_NOTHING: {"rule": Field.OPTIONAL_TEXT},
    ReasonCode.IGNORES_HALF: {"half": Field.TEXT},
    ReasonCode.NOT_HEEDED: {**_FILE, **_WHY},
    ReasonCode.LINKS_OUT: {"files": Field.TEXTS},
    ReasonCode.CACHE_FOREIGN: {"folder": Field.TEXT},
    ReasonCode.UNSAFE_UNSELECTED: {"targets": Field.TEXTS},
    ReasonCode.BASELINE_STALE: {**_FILE, "count": Field.NUMBER},
    ReasonCode.CALL_FILE_UNUSED: {**_FILE, **_WHY},
    ReasonCode.TARGET_INCONCLUSIVE: _TARGET,
    ReasonCode.TARGET_NOT_RUN: _TARGET,
    ReasonCode.NOT_REACHED: {**_NOT_REACHED, "gpu": Field.FLAG},
    ReasonCode.NOT_REACHED_IN_TIME: _NOT_REACHED,
    ReasonCode.NOT_REACHED_BEFORE_FAILURE: _NOT_REACHED,
    ReasonCode.SAFE_WITH_IT: {**_TARGET, "alone": Field.FLAG},
    ReasonCode.FUSED_KERNEL_NOT_MET: {"target": Field.TEXT, "alone": Field.FLAG},
    ReasonCode.SAFE_OFF_GPU: {"target": Field.TEXT, "alone": Field.FLAG},
    ReasonCode.UNSAFE_WITH_IT: {**_COMPARED, "reason_without": Field.REASON},
    ReasonCode.UNSAFE_OTHERWISE_WITHOUT_IT: {**_COMPARED, "reason_without": Field.REASON},
    ReasonCode.WORSE_WITH_IT: {**_VERDICT, "changes": Field.CHANGES},
    ReasonCode.CHANGES_NOTHING: _VERDICT,
    ReasonCode.UNSAFE_BESIDE: {**_COMPARED, **_OTHERS},
    ReasonCode.SAFE_BESIDE: {"target": Field.TEXT, **_OTHERS},
    ReasonCode.ENOUGH_TO_REMOVE: {**_TARGET, "changes": Field.CHANGES},
    ReasonCode.VARIANT_DOES_NOT_RUN: _TARGET,
    ReasonCode.SAFE_WITHOUT_OTHERS: {**_TARGET, **_OTHERS},
    ReasonCode.SAFE_WITHOUT_THE_OTHERS: {"target": Field.TEXT},
    ReasonCode.NOTHING_TO_COMPARE: {**_UNSAFE, "fails_otherwise": Field.FLAG},
    ReasonCode.UNSAFE_WITHOUT_OTHERS: {**_UNSAFE, "without_others": Field.FLAG, "peers": Field.SUSPECTS},
    ReasonCode.MAY_BE_HIDDEN: {**_VERDICT, "by": Field.SUSPECTS},
    ReasonCode.SUBSTITUTED: {**_WHY, "backward": Field.OPTIONAL_TEXT},
    ReasonCode.UNSAFE_TOGETHER: {**_COMPARED, **_OTHERS},
    ReasonCode.CANCELLED: {**_TARGET, **_OTHERS, "removed": Field.SUSPECTS},
    ReasonCode.BLAMED_ELSEWHERE: {**_WHY, "suspects": Field.SUSPECTS},
}
"""The fields that the data of a reason has, by its code."""
