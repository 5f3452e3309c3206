"""Runs one program with its tests; the process within the sandbox. Standard library only: nothing else is there.

It reads its work from standard input, and reports on standard output: the token if all tests passed, else a reason and a detail.
The token stays in the pipe until then, so a program that ends the process, or prints what it likes, has not passed.
"""

import builtins
import marshal
import os
import sys
from typing import Any

SOLUTION, TESTS = "<answer>", "<tests>"


def main() -> None:
    """The work is a length (8 bytes), the marshalled programs, tests and limits, and the token (the rest)."""
    work, token_pipe = marshal.loads(_read_exactly(0, int.from_bytes(_read_exactly(0, 8), "big"))), os.dup(0)
    result_pipe, nothing = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    read, write, end = os.read, os.write, os._exit  # the program may replace them
    try:
        _limit(work["memory_bytes"], work["cpu_seconds"], work["file_bytes"])
        report = _run(work["programs"], work["tests"])
    except MemoryError:
        report = b"memory"
    except BaseException as error:  # noqa: BLE001
        report = _described("error", error, work["tests"])
    write(result_pipe, report if report else read(token_pipe, 64))
    end(0)  # threads of the program may still run


def _read_exactly(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(descriptor, size - len(data))
    return data


def _limit(memory_bytes: int, cpu_seconds: int, file_bytes: int) -> None:
    import resource

    bounds = {
        resource.RLIMIT_AS: (memory_bytes, memory_bytes),
        resource.RLIMIT_CPU: (cpu_seconds, cpu_seconds),  # then SIGKILL
        resource.RLIMIT_FSIZE: (file_bytes, file_bytes),
        resource.RLIMIT_NOFILE: (64, 64),
        resource.RLIMIT_CORE: (0, 0),
    }
    for name, values in bounds.items():
        resource.setrlimit(name, values)


def _run(programs: "list[str]", tests: str) -> bytes:
    """Runs the first program that compiles, then the tests in its module; b"" if they passed."""
    try:
        compiled_tests = compile(tests, TESTS, "exec")
    except (SyntaxError, ValueError, RecursionError) as error:
        return _described("tests", error, tests)
    compiled = None
    for text in programs:
        try:
            compiled = compile(text, SOLUTION, "exec")
            break
        except (SyntaxError, ValueError, RecursionError) as error:
            problem = error
    if compiled is None:
        return _described("syntax", problem, tests)
    module = type(sys)("solution")
    sys.modules["solution"] = module
    names = vars(builtins)
    own = dict(names)
    exec(compiled, vars(module))
    names.clear()
    names.update(own)
    sys.settrace(None)
    sys.setprofile(None)
    of_answer = dict(vars(module))
    for name in [each for each in sys.modules if each.partition(".")[0] == "unittest"]:
        del sys.modules[name]  # the answer may have changed it
    try:
        exec(compiled_tests, vars(module))
        _run_unit_tests(module, of_answer)
    except AssertionError as error:
        return _described("wrong", error, tests)
    return b""


def _run_unit_tests(module: object, of_answer: "dict[str, object]") -> None:
    """Runs the test cases of `unittest` that the tests define; not those of the answer. Each test must have passed, so one that the
    answer skips or hides has not. Only the tests themselves may leave one out, by a decorator."""
    if "unittest" not in sys.modules:
        return
    import unittest

    own = [each for name, each in vars(module).items() if name not in of_answer or of_answer[name] is not each]
    cases = [each for each in own if isinstance(each, type) and issubclass(each, unittest.TestCase)]
    skipped = {case: {name for name in dir(case) if _is_skipped(case, name)} for case in cases}
    for case in cases:
        names = [name for name in dir(case) if name.startswith("test") and callable(getattr(case, name))]
        names = names or (["runTest"] if hasattr(case, "runTest") else [])
        result = _passed_tests()()
        unittest.TestSuite([case(name) for name in names if name not in skipped[case]]).run(result)
        for name in names:
            if name not in skipped[case] and name not in result.passed:
                raise AssertionError(f"{case.__name__}.{name} failed, or did not run")


def _passed_tests() -> Any:
    """A result that has the names of the tests that passed."""
    import unittest

    class Passed(unittest.TestResult):
        def __init__(self) -> None:
            super().__init__()
            self.passed: set[str] = set()

        def addSuccess(self, test: unittest.TestCase) -> None:
            self.passed.add(test._testMethodName)

        def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
            self.passed.add(test._testMethodName)

    return Passed


def _is_skipped(case: type, name: str) -> bool:
    """Whether the tests themselves leave a test out."""
    return bool(getattr(case, "__unittest_skip__", False) or getattr(getattr(case, name), "__unittest_skip__", False))


def _described(reason: str, error: BaseException, tests: str) -> bytes:
    """The report of a failure: the error, and the line of the tests at which it occurred."""
    try:
        message = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 - a class of the program
        message = ""
    name = type(error).__name__
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == TESTS:
            line = trace.tb_lineno
        trace = trace.tb_next
    place = f" in line {line} of the tests: {tests.splitlines()[line - 1].strip()}" if line else ""
    text = f"{reason}\n{name}: {message}{place}" if message else f"{reason}\n{name}{place}"
    return text[:400].encode("utf-8", "backslashreplace")


if __name__ == "__main__":
    main()
