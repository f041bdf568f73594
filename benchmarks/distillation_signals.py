"""What a teacher has to tell its student, term by term: sizes, gradients, features that RGB predicts, soft labels.

    python -m benchmarks.distillation_signals --student=runs/gain/seed1/student

Reads two finished runs, a student's workdir and its teacher's (``--teacher``; by default the folder ``teacher`` beside
the student's), on synthetic scenes, and prints three tables:

1. every term of Eq. 14 on training batches: its mean, its weight, and the norm of its weighted gradient with respect to
   the backbone, at the initial and at the trained parameters;
2. the share of the variance of the teacher's conv5 features, E^t, that A(E^s) explains on validation scenes, by day and
   night, of each modality's half, inside and outside of people's boxes (a student without the feature term has no A);
3. hard and soft labels of the RoIs that training samples, beside the exact ones (known for synthetic scenes, also under
   label noise): the Brier score, mean (p - y)^2, by day and night, and the teacher's mean score of labelled people, of
   people whom the labels miss, and of boxes of nothing.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from dcrl_jax import checkpoints
from dcrl_jax.data import pipeline, sources
from dcrl_jax.data.transforms import BoxFilter
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.losses.detection import box_mask, cell_centres, weighted_sum
from dcrl_jax.models.build import build_anchors, build_model, init_params
from dcrl_jax.ops import boxes as box_ops
from dcrl_jax.reports.tables import format_table
from dcrl_jax.training import distill
from dcrl_jax.training.rules import training_rules
from dcrl_jax.training.terms import detection_terms, distillation_terms, forward

HOURS = ("day", "night")
OVERLAP = 0.5  # of an annotation with an exact box, to be of that person


class Setting:
    """The two runs, opened."""

    def __init__(self, student_dir: str, teacher_dir: str, batches: int):
        self.params, self.config, self.step = checkpoints.restore_params(student_dir)
        self.model, self.anchors = build_model(self.config), build_anchors(self.config)
        self.guide = distill.load_guide(teacher_dir)
        distill.check_fits(self.config, self.guide)
        self.rules = training_rules(self.config)
        self.batches = batches

    def read(self, split: str, data=None, batches: int | None = None) -> list:
        """The first batches of a split in order, as NumPy."""
        data = data or self.config.data
        source = pipeline.open_split(sources.prepare(data), split)
        rows = pipeline.evaluation_batches(
            source,
            height=data.height_px,
            width=data.width_px,
            max_boxes=data.max_boxes,
            batch_size=self.config.train.batch_size,
            box_filter=BoxFilter(),
        )
        return [batch for batch, _ in zip(rows, range(batches or self.batches), strict=False)]

    def keys(self, number: int) -> jax.Array:
        """Keys of the images of one batch."""
        return jax.random.split(jax.random.key(number), self.config.train.batch_size)


def term_table(setting: Setting) -> str:
    """Table 1."""
    on, teacher = setting.rules, setting.guide

    def terms_of(params, batch, keys):
        run = forward(setting.model, params, setting.anchors, batch, keys, on)
        extra = distillation_terms(run, setting.model, params, teacher.model, teacher.params, batch, on)
        return detection_terms(run) | extra

    @jax.jit
    def measure(params, batch, keys, chosen):
        def loss(backbone):
            terms = terms_of({**params, "backbone": backbone}, batch, keys)
            return sum(chosen[name] * terms[name] for name in terms), terms

        gradient, terms = jax.grad(loss, has_aux=True)(params["backbone"])
        return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))), terms

    batches = setting.read(setting.config.data.train_split)
    stages = {
        "initial": init_params(setting.model, setting.config, setting.config.seed),
        "trained": setting.params,
    }
    weights = setting.rules.weights
    names = sorted(jax.eval_shape(terms_of, setting.params, batches[0], setting.keys(0)))
    figures = {name: [weights[name]] for name in names} | {"all together": [None]}
    for params in stages.values():
        sizes, norms = {n: [] for n in names}, {n: [] for n in figures}
        for number, batch in enumerate(batches):
            for name in figures:
                chosen = {n: weights[n] if name in (n, "all together") else 0.0 for n in names}
                norm, terms = measure(params, batch, setting.keys(number), chosen)
                norms[name].append(float(norm))
            for n in names:
                sizes[n].append(float(terms[n]))
        for name, row in figures.items():
            total = weighted_sum({n: np.mean(v) for n, v in sizes.items()}, weights)
            row += [np.mean(sizes[name]) if name in sizes else total, np.mean(norms[name])]
    columns = ["term", "weight"] + [f"{stage}: {what}" for stage in stages for what in ("size", "weighted gradient")]
    return format_table([[name, *row] for name, row in figures.items()], columns, decimals=3)


def feature_table(setting: Setting) -> str:
    """Table 2."""
    if not setting.model.adaption:
        return "the student has no adaption layer: nothing to say of its features"
    teacher = setting.guide

    @jax.jit
    def errors(batch):
        features = setting.model.apply({"params": setting.params}, batch.visible, method="extract")
        adapted = setting.model.apply({"params": setting.params}, features, method="adapt")
        seen, _ = teacher.model.apply({"params": teacher.params}, batch.visible, batch.lwir, method="propose_regions")
        goal = seen.concatenated()
        x, y = cell_centres(goal.shape[1], goal.shape[2], setting.rules.stride)
        inside = jax.vmap(box_mask, in_axes=(None, None, 0, 0))(x, y, batch.boxes, batch.is_person)
        return adapted, goal, inside

    kept = {hour: [] for hour in HOURS}
    for batch in setting.read(setting.config.data.validation_split, batches=10**6):
        rows = jax.device_get(errors(batch))
        for row in np.flatnonzero(batch.valid):
            kept[HOURS[int(batch.is_night[row])]].append([array[row] for array in rows])
    table = []
    for hour, images in kept.items():
        adapted, goal, inside = (np.stack(arrays) for arrays in zip(*images, strict=True))
        half = goal.shape[-1] // 2
        for part, channels in (("visible half", slice(0, half)), ("thermal half", slice(half, None))):
            squared = (adapted[..., channels] - goal[..., channels]) ** 2
            spread = (goal[..., channels] - goal[..., channels].mean(axis=(0, 1, 2))) ** 2
            table.append(
                [hour, part]
                + [1 - squared[cells].sum() / spread[cells].sum() for cells in (inside | ~inside, inside, ~inside)]
            )
    return format_table(table, ["hour", "features", "everywhere", "inside people", "outside"])


def label_table(setting: Setting) -> str:
    """Table 3."""
    exact_data = setting.config.data.copy_and_resolve_references()
    images = setting.batches * setting.config.train.batch_size
    with exact_data.unlocked():
        exact_data.options.update(label_noise=False, train=images, validation=1, test=1)
    noisy, exact = setting.read("train"), setting.read("train", exact_data)
    teacher = setting.guide

    @jax.jit
    def score_boxes(batch, boxes):
        variables = {"params": teacher.params}
        seen, _ = teacher.model.apply(variables, batch.visible, batch.lwir, method="propose_regions")
        return jax.nn.softmax(teacher.model.apply(variables, seen, boxes, method="refine").logits)[..., 1]

    @jax.jit
    def sampled(batch, keys):
        run = forward(setting.model, setting.params, setting.anchors, batch, keys, setting.rules)
        return run.rois, run.rdr.targets

    brier = {hour: {"hard": [], "soft": [], "mean of both": []} for hour in HOURS}
    scores = {"labelled people": [], "people whom the labels miss": [], "boxes of nothing": []}
    for number, (seen, truth) in enumerate(zip(noisy, exact, strict=True)):
        rois, targets = jax.device_get(sampled(seen, setting.keys(number)))
        soft = np.asarray(score_boxes(seen, rois))
        of_labels, of_truth = np.asarray(score_boxes(seen, seen.boxes)), np.asarray(score_boxes(seen, truth.boxes))
        for row in np.flatnonzero(seen.valid):
            people = truth.boxes[row][truth.is_person[row]]
            labels = seen.boxes[row][seen.is_person[row]]
            taken = targets.is_sampled[row]
            known = np.asarray(box_ops.iou_matrix(rois[row], people)).max(axis=1, initial=0.0) > OVERLAP
            hard = targets.is_positive[row].astype(float)
            hour = HOURS[int(seen.is_night[row])]
            for name, p in (("hard", hard), ("soft", soft[row]), ("mean of both", (hard + soft[row]) / 2)):
                brier[hour][name].append(((p - known) ** 2)[taken])
            overlap = np.asarray(box_ops.iou_matrix(labels, people))
            real, found = overlap.max(axis=1, initial=0.0) > OVERLAP, overlap.max(axis=0, initial=0.0) > OVERLAP
            scores["labelled people"].append(of_labels[row][seen.is_person[row]][real])
            scores["boxes of nothing"].append(of_labels[row][seen.is_person[row]][~real])
            scores["people whom the labels miss"].append(of_truth[row][truth.is_person[row]][~found])
    rows = [
        [f"Brier score of {name} labels", *(np.concatenate(brier[hour][name]).mean() for hour in HOURS)]
        for name in brier["day"]
    ]
    first = format_table(rows, ["RoIs sampled in training", *HOURS], decimals=4)
    rows = [[name, len(np.concatenate(v)), np.concatenate(v).mean()] for name, v in scores.items()]
    return first + "\n\n" + format_table(rows, ["boxes of the training scenes", "number", "teacher's mean score"])


def main() -> None:
    """Print the tables."""
    logging.set_verbosity(logging.ERROR)
    quiet_without_gpu()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--student", required=True, help="a student's workdir")
    parser.add_argument("--teacher", help="its teacher's workdir")
    parser.add_argument("--batches", type=int, default=25, help="of training scenes")
    options = parser.parse_args()
    teacher = options.teacher or str(Path(options.student).parent / "teacher")
    setting = Setting(options.student, teacher, options.batches)
    for table in (term_table, feature_table, label_table):
        print(f"\n{table(setting)}", flush=True)


if __name__ == "__main__":
    main()
