import subprocess
import sys


def test_registry_imports_and_counts_without_torch():
    code = """
import sys
sys.modules["torch"] = None
from search_spaces.registry import SPACES
for space in SPACES.values():
    macro = space.default_macro(num_classes=2, image_size=16)
    arch = space.discretize([[0.0] * space.num_options] * space.num_decisions)
    space.cost(arch, macro), space.minimum_cost(macro), space.draw_svg(arch), space.draw_text(arch)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
