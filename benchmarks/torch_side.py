"""The PyTorch side: the lesson's CIFAR-10 network as an experienced PyTorch user would train it.

Needs only PyTorch and NumPy. Usage: python benchmarks/torch_side.py DATA_FOLDER BATCH IMAGES
"""

import sys
import time
from pathlib import Path

import protocol
import torch
from torch import nn
from torch.nn import functional

SHIFT = 0.1  # the lesson's largest shift, as a share of height and width


def network() -> nn.Module:
    """The handout's CIFAR-10 network (cell In [6]), ending in logits."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding="same"), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Dropout(0.25)),
        *(nn.Conv2d(32, 64, 3, padding="same"), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Dropout(0.25)),
        *(nn.Flatten(), nn.Linear(64 * 6 * 6, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10)),
    )


def augment(images: torch.Tensor) -> torch.Tensor:
    """Shift by fractions of a pixel and flip uint8 (n, height, width, 3); returns (n, 3, height, width), channels last.

    One `grid_sample` with linear interpolation and nearest fill takes 10 µs per image on two cores; separable gathers
    and interpolation matrices took 22.
    """
    pixels = images.permute(0, 3, 1, 2).float().div_(255)
    count, device = len(pixels), images.device
    turn = torch.zeros(count, 2, 3, device=device)
    turn[:, 0, 0] = 1 - 2 * torch.randint(2, (count,), device=device)
    turn[:, 1, 1] = 1
    turn[:, :, 2] = (2 * torch.rand(count, 2, device=device) - 1) * 2 * SHIFT  # the grid spans −1 to 1
    grid = functional.affine_grid(turn, list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return moved.contiguous(memory_format=torch.channels_last)


class Training:
    """One epoch per round on data in the device's memory, indexed in batches, without a DataLoader."""

    def __init__(self, folder: Path, batch: int, images: int) -> None:
        torch.set_num_threads(protocol.cores())
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        arrays, labels = protocol.first_images(folder, images)
        self._images, self._labels = (torch.from_numpy(part).to(self._device) for part in (arrays, labels))
        self._batch = batch
        self._net = network().to(self._device, memory_format=torch.channels_last)
        # Keras's RMSprop: rho 0.9, epsilon 1e-7.
        self._optimizer = torch.optim.RMSprop(self._net.parameters(), lr=1e-4, alpha=0.9, eps=1e-7)
        self._decay = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: 1 / (1 + 1e-6 * step))

    def round(self) -> protocol.Measurement:
        """Train for one epoch."""
        start = time.perf_counter()
        order = torch.randperm(len(self._images), device=self._device)
        sums = torch.zeros(2, device=self._device)
        for rows in order.split(self._batch):
            sums += self._step(augment(self._images[rows]), self._labels[rows])
        loss = sums[0].item()  # synchronises with a GPU
        if loss != loss:
            raise ArithmeticError("The training diverged.")
        return {
            "images/s": len(self._images) / (time.perf_counter() - start),
            "note": f"PyTorch {torch.__version__}, {self._device.type}",
        }

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Train on a batch; returns its summed loss and number of correct predictions."""
        self._optimizer.zero_grad(set_to_none=True)
        logits = self._net(images)
        loss = functional.cross_entropy(logits, labels)
        loss.backward()
        self._optimizer.step()
        self._decay.step()
        return torch.stack([loss.detach() * len(labels), (logits.detach().argmax(1) == labels).sum()])


if __name__ == "__main__":
    data_folder, batch_size, count = sys.argv[1:]
    protocol.serve(lambda: Training(Path(data_folder), int(batch_size), int(count)).round)
