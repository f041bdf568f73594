"""The signals that a teacher gives its student: sizes and gradients of the terms, explained features, soft labels.

    python -m benchmarks.distillation_signals --student=runs/gain/seed1/student

Reads two finished runs on synthetic scenes, a student's workdir and its teacher's (``--teacher``; by default the folder
``teacher`` beside the student's), and prints three tables:

1. every term of Eq. 14 on training batches: its mean, its weight, and the norm of its weighted gradient with respect to
   the backbone, at the initial and at the trained parameters;
2. the share of the variance of the teacher's conv5 features, E^t, that A(E^s) explains on validation scenes, by day and
   night, of each modality's half, inside and outside of people's boxes (a student without the feature term has no A);
3. hard and soft labels of the RoIs that training samples, beside the exact labels (known for synthetic scenes, also
   under label noise): the Brier score, mean (p - y)^2, by day and night, and the teacher's mean score of labelled
   people, of people that the labels miss, and of boxes without a person.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from benchmarks.term_gradients import measure_terms
from dcrl_jax import checkpoints
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.data import pipeline, sources
from dcrl_jax.data.transforms import BoxFilter
from dcrl_jax.decoding import image_rules_of
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.losses.detection import box_mask, cell_centres
from dcrl_jax.models.detect import propose_regions, refine
from dcrl_jax.models.network import build_network
from dcrl_jax.ops.boxes import iou_matrix
from dcrl_jax.structures import Batch
from dcrl_jax.tables import format_table
from dcrl_jax.training import distill
from dcrl_jax.training.terms import forward, training_rules

HOURS = ("day", "night")
BATCHES = 25  # of training scenes
OVERLAP = 0.5  # an annotation belongs to a person if its IoU with the person's exact box is above this


class Runs:
    """A student and its teacher, restored."""

    def __init__(self, student_dir: str, teacher_dir: str):
        """Restore both from their workdirs.

        Raises:
            InputError: a workdir holds no checkpoint, or the teacher does not fit the student.
        """
        self.params, self.config, _ = checkpoints.restore_params(student_dir)
        self.network = build_network(self.config)
        self.teacher = distill.load_teacher(teacher_dir)
        distill.check_fits(self.config, self.teacher)
        self.rules = training_rules(self.config)

    def read(self, split: str, data: ConfigDict | None = None) -> list[Batch]:
        """Return the batches of a split in order, as NumPy; ``data`` replaces the config's."""
        data = self.config.data if data is None else data
        assert data is not None
        batches = pipeline.evaluation_batches(
            pipeline.open_split(sources.prepare(data), split),
            height=data.height_px,
            width=data.width_px,
            max_boxes=data.max_boxes,
            batch_size=self.config.train.batch_size,
            box_filter=BoxFilter(),
            image_rules=image_rules_of(data),
        )
        return list(batches)

    def keys(self, number: int) -> jax.Array:
        """Return the random keys of the images of batch ``number``, [B]."""
        return jax.random.split(jax.random.key(number), self.config.train.batch_size)


def term_table(runs: Runs) -> str:
    """Return table 1: the size, the weight and the gradient of every term."""
    network, weights = runs.network, runs.rules.weights
    batches = runs.read(runs.config.data.train_split)[:BATCHES]
    stages = {"initial": network.init_params(runs.config.seed), "trained": runs.params}
    found = [
        measure_terms(network, params, runs.rules, batches, runs.config.seed, runs.teacher)
        for params in stages.values()
    ]
    rows = [[name, weights.get(name), *(value for terms in found for value in terms[name])] for name in found[0]]
    columns = ["term", "weight"] + [f"{stage}: {value}" for stage in stages for value in ("size", "weighted gradient")]
    return format_table(rows, columns, decimals=3)


def feature_table(runs: Runs) -> str:
    """Return table 2: the explained share of the variance of the teacher's features."""
    network, teacher = runs.network, runs.teacher
    if not network.model.adapted_channels:
        return "The student has no adaption layer, so its features cannot be compared."

    @jax.jit
    def compare(batch):
        features = network.model.apply({"params": runs.params}, batch.visible, method="extract")
        adapted = network.model.apply({"params": runs.params}, features, method="adapt")
        features, _ = propose_regions(teacher.network.model, teacher.params, batch.visible, batch.lwir)
        goal = features.concatenated()
        x, y = cell_centres(goal.shape[1], goal.shape[2], runs.rules.stride)
        inside = jax.vmap(box_mask, in_axes=(None, None, 0, 0))(x, y, batch.boxes, batch.is_person)
        return adapted, goal, inside

    images = {hour: [] for hour in HOURS}
    for batch in runs.read(runs.config.data.validation_split):
        arrays = jax.device_get(compare(batch))
        for index in np.flatnonzero(batch.valid):
            images[_hour(batch, index)].append([array[index] for array in arrays])
    rows = []
    for hour in HOURS:
        adapted, goal, inside = (np.stack(arrays) for arrays in zip(*images[hour], strict=True))
        half = goal.shape[-1] // 2
        for part, channels in (("visible half", slice(0, half)), ("thermal half", slice(half, None))):
            error = (adapted[..., channels] - goal[..., channels]) ** 2
            spread = (goal[..., channels] - goal[..., channels].mean(axis=(0, 1, 2))) ** 2
            masks = (np.ones_like(inside), inside, ~inside)
            rows.append([hour, part, *(1 - error[cells].sum() / spread[cells].sum() for cells in masks)])
    return format_table(rows, ["hour", "features", "everywhere", "inside people", "outside"])


def label_table(runs: Runs) -> str:
    """Return table 3: the quality of hard and soft labels, and the teacher's scores."""
    teacher = runs.teacher
    exact_data = runs.config.data.copy_and_resolve_references()
    with exact_data.unlocked():
        images = min(BATCHES * runs.config.train.batch_size, exact_data.options.train)
        exact_data.options.update(label_noise=False, train=images, validation=1, test=1)

    @jax.jit
    def score_boxes(batch, boxes):
        features, _ = propose_regions(teacher.network.model, teacher.params, batch.visible, batch.lwir)
        outputs = refine(teacher.network.model, teacher.params, features, boxes)
        return jax.nn.softmax(outputs.logits)[..., 1]

    @jax.jit
    def sample(batch, keys):
        run = forward(runs.network, runs.params, batch, keys, runs.rules)
        return run.rois, run.rdr.targets

    brier = {name: {hour: [] for hour in HOURS} for name in ("hard", "soft", "mean of both")}
    scores = {"labelled people": [], "people that the labels miss": [], "boxes without a person": []}
    noisy_batches, exact_batches = runs.read("train")[:BATCHES], runs.read("train", exact_data)
    for number, (noisy, exact) in enumerate(zip(noisy_batches, exact_batches, strict=True)):
        rois, targets = jax.device_get(sample(noisy, runs.keys(number)))
        roi_scores, label_scores, person_scores = (
            np.asarray(score_boxes(noisy, boxes)) for boxes in (rois, noisy.boxes, exact.boxes)
        )
        for index in np.flatnonzero(noisy.valid):
            is_label, is_person = noisy.is_person[index], exact.is_person[index]
            people, labels = exact.boxes[index][is_person], noisy.boxes[index][is_label]
            truth = np.asarray(iou_matrix(rois[index], people)).max(axis=1, initial=0.0) > OVERLAP
            hard, soft = targets.is_positive[index].astype(float), roi_scores[index]
            for name, p in (("hard", hard), ("soft", soft), ("mean of both", (hard + soft) / 2)):
                brier[name][_hour(noisy, index)].append(((p - truth) ** 2)[targets.is_sampled[index]])
            overlap = np.asarray(iou_matrix(labels, people))
            is_real = overlap.max(axis=1, initial=0.0) > OVERLAP
            is_labelled = overlap.max(axis=0, initial=0.0) > OVERLAP
            scores["labelled people"].append(label_scores[index][is_label][is_real])
            scores["boxes without a person"].append(label_scores[index][is_label][~is_real])
            scores["people that the labels miss"].append(person_scores[index][is_person][~is_labelled])
    rows = [
        [f"Brier score of {name} labels", *(np.concatenate(by_hour[hour]).mean() for hour in HOURS)]
        for name, by_hour in brier.items()
    ]
    brier_table = format_table(rows, ["RoIs sampled in training", *HOURS], decimals=4)
    values = {name: np.concatenate(arrays) for name, arrays in scores.items()}
    rows = [[name, len(array), array.mean()] for name, array in values.items()]
    return f"{brier_table}\n\n" + format_table(rows, ["boxes of the training scenes", "number", "teacher's mean score"])


def _hour(batch, index):
    return HOURS[int(batch.is_night[index])]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = Parser(__doc__)
    parser.add_argument("--student", required=True, help="a student's workdir")
    parser.add_argument("--teacher", help="its teacher's workdir")
    options = parser.parse_args(arguments)
    logging.set_verbosity(logging.ERROR)
    quiet_without_gpu()
    with exit_on_error():
        runs = Runs(options.student, options.teacher or str(Path(options.student).parent / "teacher"))
        for table in (term_table, feature_table, label_table):
            print(f"\n{table(runs)}", flush=True)


if __name__ == "__main__":
    main()
