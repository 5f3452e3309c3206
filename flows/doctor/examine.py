"""Checks Strop's requirements, one finding per line: ok, a note, or wrong with a fix. For `strop doctor`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from flows.doctor.finding import GB, Finding, disk
from flows.doctor.memory_estimate import Estimate, estimate_training
from tasks.config import PipelineConfig, load_config
from tasks.errors import StropError
from tasks.runtime.plurals import count_of


def examine() -> list[Finding]:
    """All checks, in the order of their dependencies."""
    findings = [_python(), _torch(), _gpu(), _threads(), _memory(), disk()]
    findings += [_checked("git", _git), _checked("dvc", _dvc)]
    try:
        config = load_config()
    except StropError as error:
        return [*findings, _wrong("params", error)]
    findings.append(Finding("params", "ok", f"params.yaml, {count_of(len(config.ingest.sources), 'source')}"))
    findings.append(precision(config))
    findings += [_checked("sources", lambda: _sources(config)), _checked("registry", lambda: _registry(config))]
    base = _checked("base", lambda: _base(config))
    findings.append(base)
    if base.state == "ok":
        findings.append(_checked("training", lambda: _training(config)))
    return findings


def _checked(name: str, check: Callable[[], Finding]) -> Finding:
    """The finding of a check, or its error as a finding."""
    try:
        return check()
    except StropError as error:
        return _wrong(name, error)


def _wrong(name: str, error: StropError) -> Finding:
    text = f"{error.where}: {error.what}" if error.where else error.what
    return Finding(name, "wrong", text.strip(), error.fix)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", "ok", f"{version} ({sys.prefix})")


def _torch() -> Finding:
    import torch
    import transformers

    return Finding("torch", "ok", f"{torch.__version__}, transformers {transformers.__version__}")


def _threads() -> Finding:
    """The number of threads that a stage would use now, and why."""
    from tasks.runtime.threads import Threads, explicit_threads

    threads = Threads("doctor")
    choice = threads.choose()
    is_less = choice.threads < threads.limits.physical and explicit_threads() is None
    return Finding("threads", "note" if is_less else "ok", f"torch computes with {choice}")


def precision(config: PipelineConfig) -> Finding:
    """The precision of models, and settings with a precision that is only emulated."""
    from tasks.base.precision import best_precision, emulation_note, processor_name

    settings = [("finetune.precision", value) for value in config.finetune.precisions()]
    settings.append(("evaluate.precision", config.evaluate.precision))
    text = f"auto is {best_precision()} on {processor_name()}"
    text += "".join(f"; {name} is {value}" for name, value in settings if value != "auto")
    emulated = [name for name, value in settings if emulation_note(value)]
    if emulated:
        fix = f"Set {' and '.join(emulated)}: auto"
        return Finding("precision", "note", f"{text}; {emulation_note('bf16')}", fix)
    return Finding("precision", "ok", text)


def _gpu() -> Finding:
    import torch

    from tasks.base.precision import computes_bf16

    if not torch.cuda.is_available():
        text = "none: training runs on the CPU, which is enough for models of about 100M parameters"
        return Finding("gpu", "note", text)
    bf16 = "bf16" if computes_bf16() else "no bf16"
    properties = torch.cuda.get_device_properties(0)
    return Finding("gpu", "ok", f"{properties.name}, {properties.total_memory / GB:.0f} GB, {bf16}")


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    text = f"{memory.available / GB:.1f} GB free of {memory.total / GB:.1f} GB"
    if memory.available < 2 * GB:
        return Finding("memory", "note", text, "Close other programs: a stage may need more than 2 GB")
    return Finding("memory", "ok", text)


def _git() -> Finding:
    from tasks.vcs.git import head_commit, require_repository

    require_repository()
    return Finding("git", "ok", f"at commit {head_commit()[:12]}")


def _dvc() -> Finding:
    from importlib.metadata import version

    from tasks.vcs.dvc_outputs import output_hashes
    from tasks.vcs.dvc_pipeline import LOCAL_ONLY, remote_name, require_private_secrets

    require_private_secrets()
    output_hashes()  # checks that dvc.lock and data/raw.dvc can be read: they may have conflict markers
    remote = remote_name()
    if remote == LOCAL_ONLY:
        fix = "To store data elsewhere too: dvc remote add --default NAME URL"
        return Finding("dvc", "note", f"{version('dvc')}, no remote: versions can be rebuilt on this machine only", fix)
    return Finding("dvc", "ok", f"{version('dvc')}, remote {remote}")


def _sources(config: PipelineConfig) -> Finding:
    from tasks.ingest.connectors.connect import list_items

    if not config.ingest.sources:
        return Finding("sources", "note", "none declared", "Add one to params.yaml, section `ingest`")
    files = sum(len(list_items(source).items) for source in config.ingest.sources)
    return Finding("sources", "ok", f"{count_of(files, 'file')} in {count_of(len(config.ingest.sources), 'source')}")


def _registry(config: PipelineConfig) -> Finding:
    from tasks.model_store.ledger import champion_of, read_ledger, version_label
    from tasks.tracking.registry import open_registry

    registry = open_registry(config)
    champion = champion_of(read_ledger(registry.model))
    alias, serves = registry.alias("champion"), champion.version if champion else None
    text = f"{registry.model}, {count_of(len(registry.versions()), 'version')}"
    if alias != serves:
        text += f"; its alias `champion` is at {version_label(alias)}, the ledger's champion is {version_label(serves)}"
        return Finding("registry", "note", text, "The next run sets the alias: strop run")
    return Finding("registry", "ok", f"{text}, champion {f'v{serves}' if serves else 'none yet'}")


def _base(config: PipelineConfig) -> Finding:
    from tasks.base.pin import pin_base, verify_base
    from tasks.base.vocabulary import require_embeddings
    from tasks.state.manifest import read_manifest

    if config.base.scratch_settings() is not None and not read_manifest():
        return Finding("base", "note", "from scratch: it is created from the first rows", "Collect them: strop run")
    record = pin_base(config.base)
    if record.kind in ("folder", "hub"):  # it may have been pinned by an older version of Strop
        require_embeddings(verify_base(record)["config.json"].parent, record.id)
    files = count_of(len(record.files), "file")
    return Finding("base", "ok", f"{record.id} ({record.kind}, {files}, {record.digest[:12]})")


def _training(config: PipelineConfig) -> Finding:
    """Whether a step of each training fits into memory."""
    from tasks.base.pin import pin_base

    architecture = read_configuration(pin_base(config.base))
    estimates = [estimate_training(architecture, training, config.render) for training in config.finetune.trainings()]
    return training_finding(max(estimates, key=lambda estimate: estimate.memory.total))


def training_finding(estimate: Estimate) -> Finding:
    """Compares the estimate for a training with the memory of the GPU, or else of this machine."""
    import psutil
    import torch

    parameters, training = estimate.parameters, estimate.training
    trained = f"{parameters.trained / 1e6:,.1f}M of {parameters.base / 1e6:,.1f}M parameters"
    is_gpu = torch.cuda.is_available()
    available = torch.cuda.get_device_properties(0).total_memory if is_gpu else psutil.virtual_memory().total
    text = f"{training.objective} by {training.method} in {estimate.precision}, {trained}: about {estimate.memory}"
    if estimate.memory.total > available:
        text += f"; this machine has {available / GB:.0f} GB"
        lower = "render.pack_length_tokens or finetune.micro_batch_rows"
        fix = f"Set finetune.gradient_checkpointing: true, or lower {lower}"
        return Finding("training", "wrong" if is_gpu else "note", text, fix)
    return Finding("training", "ok", text)


def read_configuration(record: Any) -> dict[str, Any]:
    """The content of the base's config.json; for a GGUF file that was not converted yet, from its header, which takes seconds."""
    from transformers import AutoConfig

    from tasks.base.convert import converted_folder
    from tasks.base.foreign import trusts
    from tasks.base.pin import verify_base

    path = next(iter(verify_base(record).values()))
    folder, is_gguf = path.parent, record.kind in ("gguf", "package")
    if is_gguf and (converted := converted_folder(record)) is not None:
        folder, is_gguf = converted, False
    if is_gguf:
        configuration = AutoConfig.from_pretrained(folder, gguf_file=path.name, trust_remote_code=False)
    else:
        configuration = AutoConfig.from_pretrained(folder, trust_remote_code=trusts(folder))
    fields: dict[str, Any] = configuration.to_dict()
    return fields
