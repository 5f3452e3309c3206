"""A clone of this repository at one commit."""

from __future__ import annotations

from pathlib import Path

from tasks.errors import GitError
from tasks.runtime.run_origin import project
from tasks.vcs import git


def clone_at(revision: str, folder: Path) -> None:
    """Clones this repository into `folder` and checks out the commit, with nothing that is not in that commit."""
    commit = git.resolve(revision)
    if commit is None:
        raise GitError("no such revision", where=revision)
    git.run("clone", "--quiet", "--no-checkout", str(project()), str(folder))
    # a version's commit has the files byte for byte: neither the user's settings nor .gitattributes may change them on checkout
    attributes = folder / ".git/info/attributes"
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text("* -text -ident -working-tree-encoding\n")
    # a refused candidate's commit is on no branch and has no tag: a clone does not include it
    refs = git.run("for-each-ref", "--format=%(refname)", f"--contains={commit}").split()
    git.run("-C", str(folder), "fetch", "--quiet", str(project()), *refs[:1])
    git.run("-C", str(folder), "checkout", "--quiet", "--detach", commit)
