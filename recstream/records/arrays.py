"""Types of arrays, each with its shape and dtype."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["AnyArray", "Handles", "Matrix", "Sum", "Vector"]

Vector: TypeAlias = npt.NDArray[np.float32]
"""Shape ``(dim,)``, float32; unit length unless its docstring says otherwise."""
Matrix: TypeAlias = npt.NDArray[np.float32]
"""Shape ``(n, dim)``, float32, C-contiguous; unit rows unless its docstring says otherwise."""
Sum: TypeAlias = npt.NDArray[np.float64]
"""Shape ``(dim,)``, float64: a weighted sum, *not* unit length. float32 sums would depend on order."""
Handles: TypeAlias = npt.NDArray[np.int32]
"""Shape ``(n,)``, int32: rows of the catalogue replica of this process."""
AnyArray: TypeAlias = npt.NDArray[Any]
"""Any shape and dtype: arguments of kernels, which numba compiles for what they are called with."""
