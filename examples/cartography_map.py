"""Draw a data map from a real run: handwritten digits, one in twenty of them mislabelled on purpose.

Run: python examples/cartography_map.py     (writes cartography_map.png)
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from dataprune import Cartography, ConstantScheduler, DynamicPruner, TopK
from dataprune.reporting import plot_cartography

images, digits = load_digits(return_X_y=True)
x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(digits)
rng = np.random.default_rng(0)
wrong = torch.from_numpy(rng.permutation(len(y))[: len(y) // 20])
y[wrong] = (y[wrong] + torch.from_numpy(rng.integers(1, 10, size=len(wrong)))) % 10

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
pruner = DynamicPruner(Cartography(), TopK(), ConstantScheduler(keep_fraction=1.0))  # only watches: keeps all
pruner.fit(TensorDataset(x, y), model=model, n_epochs=20, batch_size=64, learning_rate=5e-3)

table = pruner.scorer_.to_pandas()
table["mislabelled"] = False
table.loc[wrong.numpy(), "mislabelled"] = True
print(table.groupby("mislabelled")[["confidence", "variability", "correctness", "aum"]].mean().round(2))

axes = Figure(figsize=(7, 5), layout="constrained").subplots()  # needs no screen
plot_cartography(table["variability"], table["confidence"], correctness=table["correctness"], ax=axes)
mislabelled = table[table["mislabelled"]]
axes.scatter(
    mislabelled["variability"], mislabelled["confidence"], s=40, c="none", edgecolors="black", label="mislabelled"
)
axes.set_title("Data map of the digits")
axes.legend(loc="center right")
axes.figure.savefig("cartography_map.png", dpi=120)
print("The map is in cartography_map.png; the least confident digits:", table["confidence"].nsmallest(5).index.tolist())
