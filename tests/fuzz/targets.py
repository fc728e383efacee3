"""What is called with generated input, and how often."""

import data_calls
import evaluator_calls
import file_calls
import setting_calls
from fuzzing import Target

TARGETS = (
    Target(
        "settings",
        "a profile with replaced settings, as text or as values",
        setting_calls.ASSIGNMENTS,
        setting_calls.assignments,
        setting_calls.names_of_assignments,
        0.20,
    ),
    Target(
        "options",
        "words of the command line: limits of time, rates, jobs, notebooks",
        setting_calls.WORDS,
        setting_calls.words,
        setting_calls.names_of_words,
        0.06,
    ),
    Target(
        "parameters",
        "what a notebook's first cell, or a caller of `open_run`, hands over",
        setting_calls.PARAMETERS,
        setting_calls.parameters,
        setting_calls.names_of_parameters,
        0.06,
    ),
    Target(
        "plans",
        "the plan of a notebook for sizes of data and network",
        setting_calls.PLANS,
        setting_calls.plan,
        setting_calls.names_of_plan,
        0.02,
    ),
    Target(
        "trainings",
        "every argument of `train`: one step on four images",
        setting_calls.TRAININGS,
        setting_calls.training,
        setting_calls.names_of_training,
        0.06,
    ),
    Target(
        "attacks",
        "every setting of an attack",
        setting_calls.ATTACKS,
        setting_calls.attack,
        setting_calls.names_of_attack,
        0.04,
    ),
    Target(
        "folders",
        "folders of pictures: names, layouts, kinds, sizes of the splits",
        data_calls.FOLDERS,
        data_calls.folder,
        data_calls.names_of_folder,
        0.09,
    ),
    Target(
        "pictures",
        "a picture of any format and mode, whole or damaged",
        data_calls.PICTURES,
        data_calls.picture,
        data_calls.names_of_picture,
        0.12,
    ),
    Target(
        "arrays",
        "arrays of images and labels as a data set",
        data_calls.ARRAYS,
        data_calls.arrays,
        data_calls.names_of_arrays,
        0.07,
    ),
    Target(
        "evaluators",
        "models, images and labels through the gate, into attacks of one step",
        evaluator_calls.CASES,
        evaluator_calls.evaluator,
        evaluator_calls.names_of_evaluator,
        0.10,
    ),
    Target(
        "damaged files",
        "cut, flipped, filled, foreign bytes in every kind of file",
        file_calls.DAMAGED,
        file_calls.damage,
        file_calls.names_of_damage,
        0.12,
    ),
    Target(
        "forged files",
        "one value or tensor is another, and every checksum right",
        file_calls.FORGED,
        file_calls.forge,
        file_calls.names_of_forgery,
        0.06,
    ),
)
assert abs(sum(target.share for target in TARGETS) - 1) < 1e-9
