"""Where natural and adversarial features lie: Figure 7 and its numbers."""

from ldatlib.evaluation import feature_space
from ldatlib.study.kinds import operations
from ldatlib.study.kinds.base import Kind
from ldatlib.study.kinds.white_box import WHITE_BOX

# The paper does not say which attack its figure draws.
FEATURE_ATTACK = "linf_pgd"


class Features(Kind):
    """Distances, silhouettes, the probe between natural and adversarial, and the t-SNE map."""

    name = "features"
    stage = 2
    reads = (WHITE_BOX,)

    def compute(self, ws, training, device):
        images, limit = WHITE_BOX.images(ws, training), ws.profile.tsne_images
        cloud = feature_space.cloud(ws.model(training), images, FEATURE_ATTACK, limit)
        flat = feature_space.embed(cloud)
        parts = ("natural", "adversarial", "y")
        return {
            "numbers": feature_space.numbers(cloud),
            "embedding": {part: getattr(flat, part).round(4).tolist() for part in parts},
            "images": len(cloud.y),
        }

    def line(self, record, training):
        return f"measured the features of {record.images} images of {training.label}"

    def settings(self, ws, training):
        return {
            "attack": FEATURE_ATTACK,
            "images": ws.profile.tsne_images,
            "perplexity": feature_space.PERPLEXITY,
        }

    def operations(self, ws, training):
        return 2 * ws.profile.tsne_images * operations.forward_of(ws, training)


FEATURES = Features()
