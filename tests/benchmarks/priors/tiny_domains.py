"""Domains that take milliseconds to learn from, and a configuration to do it with."""

import numpy as np

from benchmarks.domains.domain import Domain, Source
from workers.tasks.class_split import ClassSplit

CONFIG = {
    "macro": {"num_channels": 4, "num_cells": 1},
    "num_steps": 10,
    "warmup_steps": 5,
    "joint_steps": 8,
    "lr_rise_steps": 2,
    "resolutions": [4, 8],
    "resolution_weights": [0.5, 0.5],
    "min_ways": 2,
    "max_ways": 3,
    "num_examples": [8, 20],
    "joint_batch": 8,
    "num_support": 8,
    "num_query": 8,
    "num_inner_steps": 1,
    "flip": False,
    "checkpoint_every": 2,
}
NAMES = ("colors", "stripes", "shades")


def tiny_domain(name: str, number: int) -> Domain:
    """Seven classes of eight images; the third domain is gray. The first has a class that names an unseen thing."""
    generator = np.random.default_rng(number)
    labels = np.repeat(np.arange(7), 8)
    shape = (56, 8, 8) if name == "shades" else (56, 8, 8, 3)
    images = (generator.integers(0, 60, shape) + 25 * labels.reshape(-1, *[1] * (len(shape) - 1))).astype(np.uint8)
    classes = tuple(f"{name} {label}" for label in range(7))
    return Domain(
        name=name,
        shows="noise",
        arrays={"x": images, "y": labels, "classes": np.array(classes)},
        sources=(Source(package="made", version="1", license="none"),),
        split=ClassSplit(meta_train=classes[:3], meta_validation=classes[3:5], meta_test=classes[5:]),
        marks={"cifar10": classes[:1]} if number == 0 else {},
    )
