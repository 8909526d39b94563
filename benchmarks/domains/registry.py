"""The domains by name: those to learn from, then those that stay unseen."""

from collections.abc import Callable, Mapping
from typing import Final

from benchmarks.domains import emoji, fashion_mnist, imagenet32, mnist, scripts
from benchmarks.domains.domain import Domain
from benchmarks.domains.packages import Packages

DOMAINS: Final[Mapping[str, Callable[[Packages], Domain]]] = {
    imagenet32.NAME: imagenet32.build,
    emoji.NAME: emoji.build,
    scripts.NAME: scripts.build,
    mnist.NAME: mnist.build,
    fashion_mnist.NAME: fashion_mnist.build,
}
