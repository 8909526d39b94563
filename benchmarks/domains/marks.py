"""Datasets that stay unseen and have namesakes among the classes to learn from: each is a mark of those classes."""

from typing import Final

CIFAR10: Final = "cifar10"
FASHION_MNIST: Final = "fashion_mnist"
