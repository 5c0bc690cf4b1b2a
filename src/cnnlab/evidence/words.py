"""The two languages of the homework's report: English stands where it is used, Russian here, under the English."""

import math
from dataclasses import dataclass
from typing import Literal

RUSSIAN = {
    # headings
    "Homework, question 1: what improves the CIFAR-10 network, and what makes it worse": (
        "Домашнее задание, вопрос 1: что улучшает сеть для CIFAR-10, а что ухудшает"
    ),
    "The answer": "Ответ",
    "The variants, trained in full": "Варианты, обученные полностью",
    "The ladder: one change at a time": "Лестница: по одному изменению за шаг",
    "Each change alone": "Каждое изменение по отдельности",
    "What the search adds": "Что добавляет поиск",
    "Overfitting": "Переобучение",
    "Which classes gained": "Какие классы выиграли",
    "The most confident mistakes": "Самые уверенные ошибки",
    "Can its confidence be believed?": "Можно ли верить уверенности сети?",
    "How this was measured": "Как это измерено",
    "Where each sentence comes from": "Откуда взято каждое предложение",
    # sentences
    "Written from the tables of the pipeline's last run, budget {budget}. The number after a sentence leads to the "
    "rows it was made from; those rows name the MLflow runs.": (
        "Написано по таблицам последнего прогона конвейера, бюджет {budget}. Номер после предложения ведёт к строкам, "
        "из которых оно получено; в этих строках названы запуски MLflow."
    ),
    "{after} recognises {high} of the test images, {before} {low}: {points} percentage points (n = {n} and {n_before} "
    "trainings).": (
        "{after} распознаёт {high} тестовых изображений, {before} — {low}: {points} п. п. (обучений n = "
        "{n} и {n_before})."
    ),
    "**Improves** the network: {factor}, {points} points ({interval}).": (
        "**Улучшает** сеть: {factor}, {points} п. п. ({interval})."
    ),
    "**Worsens** it: {factor}, {points} points ({interval}).": (
        "**Ухудшает** её: {factor}, {points} п. п. ({interval})."
    ),
    "95 % interval {low} to {high}, n = {n}": "95-процентный интервал от {low} до {high}, n = {n}",
    "No evidence either way, n = {n}: {names}.": "Не доказано ни улучшение, ни ухудшение, n = {n}: {names}.",
    "On the ladder, where changes add up, the largest step is {rung}: {points} points against {below} (n = {n}; "
    "{verdict}).": (
        "На лестнице, где изменения складываются, самый большой шаг — {rung}: {points} п. п. против {below} (n = {n}; "
        "{verdict})."
    ),
    "{after} was chosen for its validation accuracy, {validation}; on the test set, which was scored once a training "
    "and chose nothing, it has {test}.": (
        "{after} выбран по точности на проверочных изображениях, {validation}; на тестовых, которые оценены по одному "
        "разу за обучение и ничего не выбирали, у него {test}."
    ),
    "Short trainings, all with the same number of images and scored on validation images; what helps there need not "
    "help in a long one.": (
        "Короткие обучения на одинаковом числе изображений, оценка по проверочным; что помогает здесь, не обязано "
        "помогать в долгом обучении."
    ),
    "**{rung}** changes {changes}: {points} points against {below} ({interval}; {verdict}), for × {time} of the "
    "training time.": (
        "**{rung}** меняет {changes}: {points} п. п. против {below} ({interval}; {verdict}), время обучения × {time}."
    ),
    "Here {before} alone has a validation accuracy of {accuracy} (n = {n}); every other training had the same seeds, "
    "epochs and number of images.": (
        "Сам {before} здесь распознаёт {accuracy} проверочных изображений (n = {n}); у всех остальных обучений те же "
        "начальные числа, эпохи и число изображений."
    ),
    "{setting}, seed {seed}, failed.": "{setting}, начальное число {seed}: обучение не удалось.",
    "Of {n} trials {complete} were trained to their end; the best, trial {trial}, has a validation accuracy of "
    "{accuracy}, an optimistic figure, for it is the best of {complete}.": (
        "Из {n} испытаний до конца обучены {complete}; лучшее, номер {trial}, распознаёт {accuracy} проверочных "
        "изображений — оценка оптимистична, ведь это лучшее из {complete}."
    ),
    "The settings of {before} reach {accuracy} there at the same cost.": (
        "Настройки {before} дают там {accuracy} при той же цене обучения."
    ),
    "What moved the accuracy most, by fANOVA over {n} trials: {names}.": (
        "Сильнее всего меняли точность, по fANOVA на {n} испытаниях: {names}."
    ),
    " So few trials make this a hint, not evidence.": " При столь малом числе испытаний это намёк, не доказательство.",
    "{variant} recognises {train} of the images it was trained on (without augmentation) and {validation} of the "
    "validation images: a gap of {gap} points.": (
        "{variant} распознаёт {train} изображений, на которых обучался (без аугментации), и {validation} проверочных: "
        "разрыв {gap} п. п."
    ),
    "Of {n} classes {gained} are recognised better by {after} than by {before}; {most} gained most, {most_points} "
    "points, {least} least, {least_points}.": (
        "Из {n} классов {gained} распознаются лучше сетью {after}, чем сетью {before}; больше всех — {most}, "
        "{most_points} п. п., меньше всех — {least}, {least_points}."
    ),
    "Of the {mistakes} mistakes of {after} on the test set (n = {n}), {sure} were made with a confidence of 90 % or "
    "more.": "Из {mistakes} ошибок {after} на тестовых изображениях (n = {n}) {sure} сделаны с уверенностью от 90 %.",
    "{variant} is on average {confidence} sure and right in {accuracy}: its confidence is off by {error} points "
    "(expected calibration error, 15 bins).": (
        "{variant} в среднем уверен на {confidence}, а прав в {accuracy}: уверенность ошибается на {error} п. п. "
        "(ожидаемая ошибка калибровки, 15 интервалов)."
    ),
    "Effects are paired differences of validation accuracy over seeds, with Student's 95 % interval; p values are "
    "corrected by Holm's method for all changes tested together, and a verdict is given below 5 %. Validation chooses: "
    "pruning, early stopping, the search and the best variant never saw the test set. Intervals of the test accuracy "
    "are over seeds, or, for one training, over test images (Wilson); those do not hold the luck of the seed. "
    "Confusion, mistakes and calibration are those of the first seed.": (
        "Эффект — парная разность точностей на проверочных изображениях при одинаковых начальных числах, с "
        "95-процентным интервалом Стьюдента; значения p поправлены методом Холма на все изменения сразу, вывод "
        "делается ниже 5 %. Выбирает только проверочная выборка: отсечение, ранняя остановка, поиск и лучший вариант "
        "тестовых изображений не видели. Интервалы тестовой точности — по начальным числам, а при одном обучении — по "
        "тестовым изображениям (Уилсон); удача начального числа в них не входит. Картинки ошибок и матрицы — от "
        "первого начального числа."
    ),
    # tables
    "n": "n",
    "FLOPs": "операции (FLOP)",
    "variant": "вариант",
    "epochs": "эпох",
    "training time": "время обучения",
    "parameters": "параметры",
    "validation accuracy": "точность, проверка",
    "test accuracy (95 %)": "точность, тест (95 %)",
    "change": "изменение",
    "points (95 % interval)": "п. п. (95-процентный интервал)",
    "p (Holm)": "p (Холм)",
    "verdict": "вывод",
    "time": "время",
    "class": "класс",
    "gain, points": "прирост, п. п.",
    "sentence": "предложение",
    "table": "таблица",
    "rows": "строки",
    "MLflow runs": "запуски MLflow",
    "improves": "улучшает",
    "worsens": "ухудшает",
    "no evidence": "не доказано",
    # pictures
    "Loss and accuracy against training images seen": "Потери и точность по числу показанных изображений",
    "Validation accuracy of every rung of the ladder": "Точность каждой ступени лестницы на проверочных изображениях",
    "Effects of single changes with their intervals": "Эффекты отдельных изменений с интервалами",
    "Confusion matrices before and after": "Матрицы ошибок до и после",
    "Test images that were misjudged with the highest confidence": (
        "Тестовые изображения, в которых сеть ошиблась увереннее всего"
    ),
    "Accuracy against confidence": "Точность в зависимости от уверенности",
    "{name}, training": "{name}, обучение",
    "{name}, validation": "{name}, проверка",
    "training images seen (thousands)": "показано изображений (тысяч)",
    "cross-entropy (nats)": "перекрёстная энтропия (наты)",
    "accuracy (%)": "точность (%)",
    "predicted class": "предсказанный класс",
    "true class": "истинный класс",
    "share of the true class (%)": "доля истинного класса (%)",
    "{share} of {images} test images": "{share} из {images} тестовых изображений",
    "validation accuracy less that of {base} (percentage points)\n95 % interval over paired seeds": (
        "точность на проверке минус точность {base} (процентные пункты)\n95-процентный интервал, парные начальные числа"
    ),
    "filled: improves or worsens (Holm-corrected, 5 %)\nempty: no evidence at this n": (
        "закрашено: улучшает или ухудшает (поправка Холма, 5 %)\nпусто: при этом n не доказано"
    ),
    "validation accuracy (%)": "точность на проверке (%)",
    "dots: trainings; bar: their mean": "точки: обучения; столбец: их среднее",
    "{predicted} {confidence}\n(is {actual})": "{predicted} {confidence}\n(это {actual})",
    "confidence (%)": "уверенность (%)",
    "as sure as right": "уверен настолько, насколько прав",
    "test images": "тестовые изображения",
    "bins of {few} images or more": "интервалы, в которых от {few} изображений",
}
NAMES = {  # classes of CIFAR-10, and the factors of params.yaml
    "airplane": "самолёт",
    "automobile": "автомобиль",
    "bird": "птица",
    "cat": "кошка",
    "deer": "олень",
    "dog": "собака",
    "frog": "лягушка",
    "horse": "лошадь",
    "ship": "корабль",
    "truck": "грузовик",
    "batch normalisation": "пакетная нормализация",
    "no dropout": "без дропаута",
    "double dropout": "двойной дропаут",
    "no augmentation": "без аугментации",
    "flip only": "только отражение",
    "shift only": "только сдвиг",
    "and cutout": "плюс вырезание (cutout)",
    "and mixup": "плюс смешивание (mixup)",
    "half the filters": "вдвое меньше фильтров",
    "double filters": "вдвое больше фильтров",
    "one convolution a block": "одна свёртка в блоке",
    "three convolutions a block": "три свёртки в блоке",
    "kernel 5×5": "ядро 5×5",
    "average pooling": "усредняющий пулинг",
    "strided convolution": "свёртка с шагом вместо пулинга",
    "sigmoid": "сигмоида",
    "tanh": "гиперболический тангенс",
    "rate × ⅓": "скорость обучения × ⅓",
    "rate × 3": "скорость обучения × 3",
    "rate × 10": "скорость обучения × 10",
    "cosine schedule": "косинусное расписание",
    "batch 128": "пакет 128",
    "batch 512": "пакет 512",
    "label smoothing": "сглаживание меток",
    "weight decay": "затухание весов",
    "global pooling": "глобальный пулинг",
    "standardised inputs": "стандартизованный вход",
    "inputs 0 to 255": "вход от 0 до 255",
}


@dataclass(frozen=True)
class Language:
    """English or Russian: sentences, names and numbers as its readers write them."""

    code: Literal["en", "ru"] = "en"

    def __call__(self, english: str, **values: object) -> str:
        """A sentence, its {places} filled. Raises KeyError where the Russian is missing."""
        return (english if self.code == "en" else RUSSIAN[english]).format(**values)

    def name(self, english: str) -> str:
        """A class or a factor; as in params.yaml where no translation is known."""
        return english if self.code == "en" else NAMES.get(english, english)

    def number(self, value: float, digits: int) -> str:
        """A number with so many decimals; a dash where there is none."""
        return "–" if math.isnan(value) else self._spelled(f"{value:,.{digits}f}")

    def count(self, value: float) -> str:
        """A whole number."""
        return self.number(value, 0)

    def percent(self, share: float, digits: int = 2) -> str:
        """A share of 1 in per cent."""
        return f"{self.number(100 * share, digits)} %"

    def points(self, value: float, digits: int = 2) -> str:
        """A difference with its sign."""
        return "–" if math.isnan(value) else self._spelled(f"{value:+,.{digits}f}")

    def chance(self, p: float) -> str:
        """A p value; below a thousandth no more is told."""
        return f"< {self.number(0.001, 3)}" if p < 0.0005 else self.number(p, 3)

    def seconds(self, value: float) -> str:
        """A duration."""
        minutes, rest = divmod(round(value), 60)
        told = f"{minutes} min {rest} s" if minutes else f"{rest} s"
        return told if self.code == "en" else told.replace("min", "мин").replace("s", "с")

    def span(self, low: int, high: int) -> str:
        """Whole numbers from one to the other."""
        return f"{low}" if low == high else f"{low}–{high}"

    def _spelled(self, number: str) -> str:
        swapped = number.replace(",", "\u202f").replace(".", ",") if self.code == "ru" else number
        return swapped.replace("-", "−")
