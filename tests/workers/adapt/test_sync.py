import socket
import subprocess
import sys
from pathlib import Path

import torch

from workers.adapt.sync import Group

RANK = """
import sys
import torch
import torch.distributed as dist
from workers.adapt.sync import Group

rank, port, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
group = Group(rank=rank, size=2)
tensors = [torch.full((2, 2), float(rank)), torch.tensor([10.0 * rank])]
group.average(tensors)
torch.save((*tensors, group.agree(5.0 + rank), group.leads), out)
dist.destroy_process_group()
"""


def test_two_ranks_average_their_tensors_and_follow_rank_0(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(port), str(tmp_path / f"{rank}.pt")])
        for rank in range(2)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    for rank in range(2):
        matrix, vector, agreed, leads = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(matrix, torch.full((2, 2), 0.5))
        assert torch.equal(vector, torch.tensor([5.0]))
        assert (agreed, leads) == (5.0, rank == 0)


def test_a_group_of_one_talks_to_nobody() -> None:
    tensor = torch.ones(3)
    Group().average([tensor])
    assert torch.equal(tensor, torch.ones(3))
    assert Group().agree(2.5) == 2.5
