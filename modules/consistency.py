"""Cross-lingual consistency: a row and its translation are to get the same probabilities."""

# B = rows of a micro-batch, P = pairs of a row and one of its views, C = classes

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.protocols import EncodedBatch


@dataclass(frozen=True)
class ViewLosses:
    """The consistency losses of a micro-batch.

    Args:
        divergence_P: KL(p(x) || p(x')) of every pair, in nats.
        weight: `w` of a pair.
    """

    divergence_P: Tensor
    weight: float

    @property
    def weighted_sum(self) -> Tensor:
        """`sum w KL` over the pairs of this micro-batch; a scalar."""
        return self.weight * self.divergence_P.sum()


def view_losses(network: nn.Module, logits_BC: Tensor, batch: EncodedBatch, strength: float) -> ViewLosses:
    """Consistency of rows with their views (xTune, Zheng et al., arXiv 2106.08226, eq. 3, in one direction).

        lambda * 1/M sum over the M pairs (x, x') of an epoch of KL(stopgrad p(x) || p(x'))

    where x' is a translation or a code-switched copy of x. With N rows in an epoch, a pair weighs `lambda N / M` in
    its window, like the rows of Eq. 1; so an epoch adds up to the term whatever the batch cut, and a row without a
    view adds nothing.

    Args:
        network: Gives logits from `inputs`.
        logits_BC: Logits of the batch's rows.
        batch: Holds `n_views` (M) and `n_dealt` (N) where rows have views, and where one of its own rows does,
            `views`: the `inputs` of the views and `of`, the position of their rows in the batch.
        strength: lambda.

    Raises:
        InputError: If the rows have no views.
    """
    if not strength:
        return ViewLosses(logits_BC.new_zeros(0), 0.0)
    if "n_views" not in batch:
        raise InputError(
            f"model.consistency is {strength}, but data.views is not given, expected translations of the training "
            'rows; make them with "python main.py predict --config translate.yaml"'
        )
    weight = strength * batch["n_dealt"] / batch["n_views"]
    if "views" not in batch:
        return ViewLosses(logits_BC.new_zeros(0), weight)
    log_view_PC = functional.log_softmax(network(batch["views"]["inputs"]), dim=1)
    log_row_PC = functional.log_softmax(logits_BC.detach(), dim=1)[batch["views"]["of"]]
    divergence_P = functional.kl_div(log_view_PC, log_row_PC, reduction="none", log_target=True).sum(dim=1)
    return ViewLosses(divergence_P, weight)
