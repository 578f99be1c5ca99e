"""Trains a small PyTorch network on Fashion-MNIST, for the quantization-aware originals of the zoo."""
import torch
from torch import nn

from fashion_mnist import images, labels

N_IMAGES = 8000


def fit(model, n_epochs, rate):
    """Adam with a rate that falls to zero, batches of 128 in a fixed order of shuffles; returns the model."""
    x, classes = torch.from_numpy(images("train", N_IMAGES)), torch.from_numpy(labels("train", N_IMAGES))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    n_batches = len(x) // 128
    optimizer = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=n_epochs * n_batches)
    for _ in range(n_epochs):
        order = torch.randperm(len(x))
        for batch in order[: n_batches * 128].split(128):
            loss = nn.functional.cross_entropy(model(x[batch]), classes[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"loss {loss.item():.3f}", flush=True)
    return model
