"""All search spaces by name. Free of torch."""

from collections.abc import Mapping
from types import MappingProxyType

from search_spaces.darts.space import Darts
from search_spaces.mobile.space import Mobile
from search_spaces.nas_bench_201.space import NasBench201
from search_spaces.spec import SearchSpace

SPACES: Mapping[str, SearchSpace] = MappingProxyType(
    {space.name: space for space in (NasBench201(), Darts(), Mobile())}
)
