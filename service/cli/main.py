"""The command line: `archprior`. Each command, or group of commands, lies in a file of its own."""

from collections.abc import Callable, Mapping
from typing import Final

import typer

from service.cli.adapt import adapt
from service.cli.backup import backup, restore
from service.cli.bench import bench
from service.cli.datasets import datasets
from service.cli.errors import with_readable_errors
from service.cli.gc import gc
from service.cli.inspect import inspect
from service.cli.keys import keys
from service.cli.log import log
from service.cli.meta_runs.commands import meta_runs
from service.cli.meta_train import meta_train
from service.cli.owners import owners
from service.cli.predict import predict
from service.cli.priors import priors
from service.cli.recommend import recommend
from service.cli.records import cancel, list_adaptations
from service.cli.serve import serve
from service.cli.spaces import spaces
from service.cli.status import status
from service.cli.webhooks import webhooks

COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "serve": serve,
    "adapt": adapt,
    "meta-train": meta_train,
    "list": list_adaptations,
    "status": status,
    "log": log,
    "cancel": cancel,
    "spaces": spaces,
    "inspect": inspect,
    "predict": predict,
    "recommend": recommend,
    "bench": bench,
    "gc": gc,
    "backup": backup,
    "restore": restore,
}
GROUPS: Final[Mapping[str, typer.Typer]] = {
    "datasets": datasets,
    "meta-runs": meta_runs,
    "priors": priors,
    "webhooks": webhooks,
    "keys": keys,
    "owners": owners,
}

app = typer.Typer(
    name="archprior",
    help="Meta-search: post a dataset, get a network that fits it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _name, _command in COMMANDS.items():
    app.command(_name)(with_readable_errors(_command))
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)

if __name__ == "__main__":
    app()
