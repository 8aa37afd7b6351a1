"""How a network learns from batches, and goes on where an earlier run of the same was ended."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from astrotriton.training.crops import Batch

if TYPE_CHECKING:
    import keras


def learn(
    network: "keras.Model",
    batches: Iterator[Batch],
    *,
    epochs: int,
    steps: int,
    learning_rate: float,
    warm_up: float,
    folder: Path,
    on_epoch: Callable[[int, float, float], None],
) -> None:
    """Have a network learn, in place, by Adam and binary cross-entropy.

    Parameters
    ----------
    network
        As it begins.
    batches
        Endless; ``steps`` of them are an epoch.
    epochs, steps
        For how long.
    learning_rate
        At its highest; it rises from a tenth in the first ``warm_up`` of all steps, and then falls
        as a cosine.
    warm_up
        Share of the steps.
    folder
        Keeps what an interrupted run goes on from.
    on_epoch
        Told of the epochs that are done: the number, from 1 on, the loss, and the seconds since
        this run began.
    """
    import keras  # slow to import

    every = epochs * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 10, every, warmup_target=learning_rate, warmup_steps=int(every * warm_up)
    )
    # XLA takes two thirds of the processor time.
    network.compile(
        keras.optimizers.Adam(schedule), keras.losses.BinaryCrossentropy(), jit_compile=True
    )
    began = time.monotonic()

    def report(epoch: int, logs: dict[str, float]) -> None:
        on_epoch(epoch + 1, logs["loss"], time.monotonic() - began)

    network.fit(
        batches,
        epochs=epochs,
        steps_per_epoch=steps,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_end=report),
            # A training that was ended goes on where it was.
            keras.callbacks.BackupAndRestore(str(folder / "unfinished")),
        ],
    )
