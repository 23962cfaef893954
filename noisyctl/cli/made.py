"""How each artifact was made: noted after every command, and compared with what the same command would do now.

See noisyctl/runs/record.py for what is kept. A note holds the command with the options that were given, and nothing of what
params.yaml said but the resolved params: so the same command can be resolved again, under the params.yaml of today.
"""

from typing import Any

from noisyctl import code
from noisyctl.cli.commands import stage_named
from noisyctl.cli.common import COMMON
from noisyctl.cli.resolve import Call, asked, resolve
from noisyctl.cli.stage import Stage, specs_of
from noisyctl.errors import NoisyctlError
from noisyctl.runs import record

SILENT = ("dry_run", "json")  # options that change nothing of what is made


def note(call: Call, given: dict[str, Any]) -> None:
    """Keep in the scratch folder how each artifact was made that the command has just written."""
    places = [
        path
        for option in call.stage.options
        if option.writes is not None and (place := getattr(call.inputs, option.name, None)) is not None
        for path in option.writes(place).places
    ]
    digests = {path: digest for path in places if (digest := record.digest_of(path))}
    if not digests:
        return
    own = {name: value for name, value in given.items() if value not in (None, [], ()) and name not in SILENT}
    stage, words, params = code.stage_of(call.stage.words, call.module), typed(call.stage, own), _params(call)
    sources = code.digests_of(stage)
    for path, digest in digests.items():
        made = record.Record(digest, words, own, stage, sources, params, call.asked)
        record.write(call.session.scratch, path, made)


def params_now(found: record.Record) -> dict[str, Any] | None:
    """The params that a record's command would take today; None where it can no longer be resolved.

    Where code and params.yaml are as they were, the params are too, and the module that declares them, which may import
    torch, is left alone.
    """
    try:
        stage = stage_named(found.command)
        given = dict.fromkeys([name for name, *_ in COMMON] + [option.name for option in stage.options])
        given |= dict.fromkeys([*specs_of(stage), "set"]) | {"json": False}
        given |= dict(found.given)
        if asked(stage, given).values == found.asked and found.code == code.digests_of(found.stage):
            return dict(found.params)
        return _params(resolve(stage, given))
    except (NoisyctlError, ImportError):
        return None


def typed(stage: Stage, given: dict[str, Any]) -> tuple[str, ...]:
    """The command's words with the options that were given, as a person types them behind `noisyctl`."""
    specs, words = specs_of(stage), list(stage.words)
    arguments = {option.name for option in stage.options if option.argument}
    for name, value in given.items():
        if name in arguments:
            words.append(str(value))
        elif isinstance(value, bool):
            flag = f"--{name.replace('_', '-')}"
            words.append((specs[name].option if value else specs[name].off) if name in specs else flag)
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                words += [f"--{name.replace('_', '-')}", str(one)]
    return tuple(words)


def _params(call: Call) -> dict[str, Any]:
    """The params that decide the result, and the seed."""
    values = {} if call.params is None else call.params.model_dump(mode="json")
    return values | {"seed": call.session.seed}
