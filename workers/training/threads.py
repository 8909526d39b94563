"""How threads of torch wait for each other: a variable that is read when torch is imported. Free of torch."""

from typing import Final

# Turns that a thread waits for another before it gives up its CPU. By default it takes milliseconds, which loses a lot
# where other processes want the CPUs too; without any, two threads are slower than one: on an idle machine a step of
# the default network took 48 ms with one, 72 with two that do not wait, 32 with two as here.
WAITING: Final = {"GOMP_SPINCOUNT": "1000"}
