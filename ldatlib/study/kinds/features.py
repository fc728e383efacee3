"""Where natural and adversarial features lie: Figure 7 and its numbers."""

from ldatlib.evaluation import feature_space
from ldatlib.evaluation.named_attacks import Attack
from ldatlib.study.kinds import operations
from ldatlib.study.kinds.base import Kind


class Features(Kind):
    """Distances, silhouettes, the probe between natural and adversarial, and the t-SNE map."""

    name = "features"

    def compute(self, ws, training, device):
        x, y = ws.test_images(ws.profile.tsne_images, device)
        cloud = feature_space.cloud(
            ws.model(training), x, y, self.attack(ws), batch_size=ws.profile.eval_batch
        )
        flat = feature_space.embed(cloud)
        parts = ("natural", "adversarial", "y")
        hits = feature_space.held_out(cloud)
        return {
            "numbers": feature_space.numbers(cloud, hits),
            "undefined": feature_space.undefined(cloud),
            "embedding": {part: getattr(flat, part).round(4).tolist() for part in parts},
            "images": len(cloud.y),
            "samples": feature_space.samples(cloud),
            "probe_hits": None if hits is None else hits.tolist(),
        }

    def line(self, record, training):
        return f"measured the features of {record.images} images of {training.label}"

    def settings(self, ws, training):
        return {
            "attack": self.attack(ws),
            "images": ws.profile.tsne_images,
            "batch_size": ws.profile.eval_batch,
            "perplexity": feature_space.PERPLEXITY,
        }

    def operations(self, ws, training):
        attacked = operations.of_attacks(ws, training, [self.attack(ws)], ws.profile.tsne_images)
        return attacked + 2 * ws.profile.tsne_images * operations.forward_of(ws, training)

    @staticmethod
    def attack(ws) -> Attack:
        """PGD as in Table 1: the paper does not say which attack its figure draws."""
        return Attack("pgd", "linf", ws.profile.eps_linf, ws.profile.steps)


FEATURES = Features()
