"""The two languages of the homework's report: English stands where it is used, Russian here, under the English."""

import math
from dataclasses import dataclass
from typing import Literal

from cnnlab.evidence import lesson_words

RUSSIAN = lesson_words.RUSSIAN | {
    # headings
    "Homework, question 1: what improves the CIFAR-10 network, and what makes it worse": (
        "Домашнее задание, вопрос 1: что улучшает сеть для CIFAR-10, а что ухудшает"
    ),
    "The answer": "Ответ",
    "The variants on the test set": "Варианты на тестовой выборке",
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
    "{after} recognises {high} of the test images, {before} {low}: {points} percentage points (trainings: {n} and "
    "{n_before}).": (
        "{after} распознаёт {high} тестовых изображений, {before} — {low}: {points} п. п. (запусков обучения: {n} и "
        "{n_before})."
    ),
    "**Improves** the network: {factor}, {points} points ({interval}).": (
        "**Улучшает** сеть: {factor}, {points} п. п. ({interval})."
    ),
    "**Worsens** it: {factor}, {points} points ({interval}).": (
        "**Ухудшает** её: {factor}, {points} п. п. ({interval})."
    ),
    "95 % interval {low} to {high}, n = {n}": "95%-й доверительный интервал от {low} до {high}, n = {n}",
    "No evidence at n = {n}, corrected for {tests} tests: {names}.": (
        "Не доказано при n = {n} с поправкой на число проверок ({tests}): {names}."
    ),
    "On the ladder, where changes add up, the largest gain is that of {rung}: {points} points against {below} (n = "
    "{n}; {verdict}).": (
        "На лестнице, где изменения складываются, больше всего даёт {rung}: {points} п. п. против {below} (n = {n}; "
        "{verdict})."
    ),
    "Beside {before}, {after} has the highest validation accuracy, {validation}, and was chosen for it; on the test "
    "set, which was scored once a training and chose nothing, it has {test}.": (
        "Не считая {before}, точность на проверочной выборке выше всего у {after}, {validation}, поэтому выбран он; по "
        "тестовой выборке, использованной один раз за обучение, ничего не выбиралось, точность на ней {test}."
    ),
    "Training loss and accuracy are of augmented images while the network learns, with dropout and smoothed "
    "labels where the variant has them; validation loss and accuracy are without all of these.": (
        "Потери и точность на обучающих изображениях измерены во время обучения: на аугментированных изображениях, с "
        "дропаутом и сглаженными метками, где они есть у варианта; на проверочных — без всего этого."
    ),
    "Short trainings, all with the same number of images and scored on validation images; what helps there need not "
    "help in a long one.": (
        "Короткие запуски обучения на одинаковом числе изображений, оценка по проверочной выборке; что помогает здесь, "
        "не обязательно поможет в долгом обучении."
    ),
    "**{rung}** changes {changes}: {points} points against {below} ({interval}; {verdict}); training time × {time}.": (
        "**{rung}** меняет {changes}: {points} п. п. против {below} ({interval}; {verdict}); время обучения × {time}."
    ),
    "nothing that is not the same for all here": "только то, что здесь для всех одинаково",
    "Here {before} itself has a validation accuracy of {accuracy} (n = {n}); every change alone was trained with the "
    "same seeds, epochs and number of images.": (
        "Сам {before} распознаёт здесь {accuracy} проверочных изображений (n = {n}); с каждым отдельным изменением "
        "сеть обучена при тех же начальных значениях генератора (seed), числе эпох и изображений."
    ),
    "{setting}, seed {seed}, failed: {reason}": (
        "{setting}, начальное значение (seed) {seed}: обучение не удалось: «{reason}»"
    ),
    "Of {n} trials {complete} were trained to their end; the best, trial {trial}, has a validation accuracy of "
    "{accuracy}, an optimistic figure, for it is the best of {complete}.": (
        "Испытаний: {n}, доведено до конца: {complete}; лучшее, № {trial}, даёт на проверочной выборке {accuracy} — "
        "оценка завышена, ведь это лучшее из {complete}."
    ),
    "The settings of {base}, trial {trial}, reach {accuracy} there at the same cost.": (
        "Настройки {base} (испытание № {trial}) дают там {accuracy} при том же объёме вычислений."
    ),
    "What moved the accuracy most, by fANOVA over {n} trials: {names}.": (
        "Сильнее всего на точность влияли (fANOVA, испытаний: {n}): {names}."
    ),
    " So few trials make this a hint, not evidence.": " Испытаний так мало, что это намёк, а не доказательство.",
    "{variant} recognises {train} of a sample of its training images, as many as it has validation images and without "
    "augmentation, and {validation} of the validation images: a gap of {gap} points (n = {n}).": (
        "{variant} распознаёт {train} обучающих изображений (взято столько же, сколько проверочных, без аугментации) и "
        "{validation} проверочных: разрыв {gap} п. п. (n = {n})."
    ),
    "Of {count} classes {gained} are recognised better by {after} than by {before} (the first seed of each); {most} "
    "gained most, {most_points} points, {least} least, {least_points}.": (
        "Классов, которые {after} распознаёт лучше, чем {before} (по первому запуску каждого): {gained} из {count}; "
        "наибольший прирост — «{most}», {most_points} п. п., наименьший — «{least}», {least_points}."
    ),
    "Of the {mistakes} mistakes of {after} on the test set (all trainings together, n = {n}), {sure} were made with a "
    "confidence of 90 % or more.": (
        "Ошибок {after} на тестовых изображениях: {mistakes} (все запуски вместе, n = {n}), из них с уверенностью 90 % "
        "и выше: {sure}."
    ),
    "{variant} is on average {confidence} sure and right in {accuracy} of cases: its confidence is off by {error} "
    "points (expected calibration error, 15 bins; n = {n}).": (
        "{variant} в среднем уверен на {confidence}, а прав в {accuracy} случаев: расхождение {error} п. п. (ожидаемая "
        "ошибка калибровки, 15 интервалов; n = {n})."
    ),
    "Effects are paired differences of validation accuracy over seeds, each with its own Student's 95 % interval. A "
    "verdict is given where p is below 5 % after Holm's correction, for all changes alone together and for all rungs "
    "together; so an interval may leave 0 out and the verdict still be no evidence. Validation chooses: pruning, early "
    "stopping, the search and the choice of the best variant never saw the test set. Intervals of the test accuracy "
    "are over seeds, or, for one training, over test images (Wilson); those do not hold the luck of the seed. Pictures "
    "and the table of classes are of the first seed.": (
        "Эффект — парная разность точностей на проверочной выборке при одинаковых начальных значениях генератора, у "
        "каждого свой 95%-й доверительный интервал Стьюдента. Вывод делается, когда p < 5 % после поправки Холма — "
        "общей для всех отдельных изменений и общей для всех ступеней лестницы; поэтому интервал может не включать 0, "
        "а вывод всё же быть «не доказано». Выбирает только проверочная выборка: при отсечении, ранней остановке, "
        "поиске и выборе лучшего варианта тестовые изображения не использовались. Интервалы точности на тесте — по "
        "запускам с разными начальными значениями, а для одного запуска — по тестовым изображениям (Уилсон); последние "
        "разброс по начальным значениям не учитывают. Картинки и таблица классов — по первому запуску."
    ),
    # the second question
    "Homework, question 2: what must change for MNIST, CIFAR-100 and ImageNet, shown by doing it": (
        "Домашнее задание, вопрос 2: что изменить для MNIST, CIFAR-100 и ImageNet — показано на деле"
    ),
    "The answer for each data set": "Ответ для каждого набора данных",
    "What changes, and why": "Что меняется и почему",
    "Layer by layer": "Слой за слоем",
    "What trained features are worth elsewhere": "Чего стоят обученные признаки на других данных",
    "How transfers were measured": "Как измерен перенос",
    "**{target}**: in {network} change {parts}; all else can stay.": (
        "**{target}**: в сети {network} изменить: {parts}; всё остальное можно оставить."
    ),
    "On {share} of {target}'s training images, after {steps} steps, {network} is right in {accuracy} of the validation "
    "images at best: {begins} (n = {n}).": (
        "На {share} обучающих изображений {target} (шагов: {steps}) {network} верно распознаёт в лучшем случае "
        "{accuracy} проверочных: {begins} (n = {n})."
    ),
    "from scratch": "с нуля",
    "features of {source}, frozen": "замороженные признаки {source}",
    "features of {source}, fine-tuned": "дообученные признаки {source}",
    "An epoch of {target} would be {flop} PFLOP for {network}; about 90 epochs are usual.": (
        "Эпоха {target} для {network} — это {flop} PFLOP; обычно нужно около 90 эпох."
    ),
    "At the {speed} GFLOP/s with which {variant} was trained here an epoch would take about {hours} hours: so several "
    "GPUs or hosts, bfloat16, and pictures that are streamed; these are settings, no new code.": (
        "При {speed} GFLOP/s, с которыми здесь обучался {variant}, эпоха заняла бы около {hours} ч: поэтому несколько "
        "GPU или машин, bfloat16 и чтение картинок потоком; всё это настройки, нового кода не нужно."
    ),
    "{network} must give up its hidden layer for {target}. {reason}": (
        "Для {target} сеть {network} должна отказаться от скрытого слоя. {reason}"
    ),
    "**{name}**: not available: {reason}": "**{name}**: недоступно: {reason}",
    "not available: {reason}": "недоступно: {reason}",
    "The rules are applied by the program to each network and data set; ImageNet's pictures themselves were not "
    "trained on.": (
        "Правила применены программой к каждой сети и каждому набору данных; на самих картинках ImageNet сети не "
        "обучались."
    ),
    "{network}. Each cell: layer, output, parameters, operations of a pass forward, receptive field in pixels; "
    "`transfer/layers.csv` has every layer.": (
        "{network}. В каждой ячейке: слой, выход, параметры, операции прямого прохода, рецептивное поле в пикселях; в "
        "`transfer/layers.csv` — все слои."
    ),
    "**Helps** {network} on {target} with {share} of its training images: {told}.": (
        "**Помогает** сети {network} на {target} при {share} обучающих изображений: {told}."
    ),
    "**Hurts** {network} on {target} with {share} of its training images: {told}.": (
        "**Вредит** сети {network} на {target} при {share} обучающих изображений: {told}."
    ),
    "No evidence for {network} on {target} with {share} of its training images: {told}.": (
        "Не доказано для сети {network} на {target} при {share} обучающих изображений: {told}."
    ),
    "Every setting is trained with the same seeds and on the same images as its partner from scratch; all have about "
    "the same number of steps, one pass over the images at least, so a large share is seen less often than a small "
    "one. Differences are of validation accuracy, in percentage points, with Student's 95 % interval over pairs; "
    "verdicts are corrected by Holm for all transfers together. Features are all layers before the classifier that "
    "fit, of one training of the source, so intervals leave out its luck; frozen ones keep their normalisation's "
    "statistics. Test images were not used.": (
        "Каждый вариант обучен с теми же начальными значениями и на тех же изображениях, что и его пара с нуля; "
        "шагов у всех примерно поровну, но не меньше одного прохода по изображениям, поэтому большая доля показана "
        "меньшее число раз, чем малая. Разности — точности на проверочной выборке, в процентных пунктах, с 95%-м "
        "интервалом Стьюдента по парам; выводы — с поправкой Холма для всех переносов вместе. Признаки — все "
        "подходящие слои до классификатора одного обученного источника, поэтому его разброс в интервалы не входит; у "
        "замороженных не меняется и статистика нормализации. Тестовые изображения не использовались."
    ),
    # reasons of changes, cnnlab.nets.adapt
    "The pictures of {data} have this size.": "Такого размера картинки {data}.",
    "Later layers work on {map}×{map} positions in place of {side}×{side}: a picture costs {ratio} times less.": (
        "Следующие слои работают с {map}×{map} положениями вместо {side}×{side}: картинка обходится дешевле в {ratio} "
        "раза."
    ),
    "At {side}×{side} the hidden layer of {units} units alone would have {parameters} parameters.": (
        "При {side}×{side} один только скрытый слой из {units} нейронов имел бы {parameters} параметров."
    ),
    "{side}×{side} pixels do not last for more halvings.": (
        "{side}×{side} пикселей не хватит на большее число делений пополам."
    ),
    "Before global pooling a unit would see {seen}×{seen} of {side}×{side} pixels; with what is added it sees "
    "{now}×{now}.": (
        "Перед глобальным пулингом нейрон видел бы {seen}×{seen} из {side}×{side} пикселей; с добавленными ступенями "
        "он видит {now}×{now}."
    ),
    "Small pictures lie in memory as they are; they are shifted, not cropped.": (
        "Маленькие картинки лежат в памяти как есть; их сдвигают, а не обрезают."
    ),
    "One logit a class; softmax and cross-entropy stay. Guessing gives {chance} %.": (
        "По одному логиту на класс; softmax и перекрёстная энтропия остаются. Угадывание даёт {chance} %."
    ),
    "The mirror image of a picture of {data} is no picture of its class.": (
        "Зеркальное отражение картинки {data} уже не принадлежит её классу."
    ),
    "In photographs an object may be large or small: a random crop changes its size, too.": (
        "На фотографиях предмет может быть крупным или мелким: случайная обрезка меняет и его размер."
    ),
    "A picture's answers and gradients take {megabytes} MB; the rate goes with the batch (Goyal et al. 2017, "
    "arXiv:1706.02677).": (
        "Выходы слоёв и градиенты одной картинки занимают {megabytes} МБ; скорость обучения меняется вместе с пакетом "
        "(Goyal et al. 2017, arXiv:1706.02677)."
    ),
    "Operations of training on one picture; an epoch has {images} of them.": (
        "Операции обучения на одной картинке; в эпохе их {images}."
    ),
    # tables
    "n": "n",
    "data set": "набор данных",
    "network": "сеть",
    "part": "часть",
    "before": "было",
    "adapted": "стало",
    "why": "почему",
    "images": "изображения",
    "begins with": "начало",
    "FLOPs": "операции (FLOP)",
    "variant": "вариант",
    "epochs": "эпох",
    "training time": "время обучения",
    "parameters": "параметры",
    "validation accuracy": "точность на проверочной выборке",
    "test accuracy (95 %)": "точность на тесте (95 %)",
    "change": "изменение",
    "points (95 % interval)": "п. п. (95%-й интервал)",
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
    "Validation accuracy of every rung of the ladder": "Точность каждой ступени лестницы на проверочной выборке",
    "Effects of single changes with their intervals": "Эффекты отдельных изменений с интервалами",
    "Confusion matrices before and after": "Матрицы ошибок до и после",
    "Test images that were misjudged with the highest confidence": (
        "Тестовые изображения, в которых сеть ошиблась увереннее всего"
    ),
    "Validation accuracy against the share of training images, by what a training begins with": (
        "Точность на проверке в зависимости от доли обучающих изображений и от начала обучения"
    ),
    "share of the training images (%)": "доля обучающих изображений (%)",
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
        "точность на проверке минус точность {base} (процентные пункты)\n95%-й интервал по парам запусков"
    ),
    "filled: improves or worsens (Holm-corrected, 5 %)\nempty: no evidence at this n": (
        "закрашено: улучшает или ухудшает (поправка Холма, 5 %)\nпусто: при этом n не доказано"
    ),
    "validation accuracy (%)": "точность на проверке (%)",
    "dots: trainings; bar: their mean": "точки: запуски обучения; столбец: их среднее",
    "{predicted} {confidence}\n(is {actual})": "{predicted} {confidence}\n(это {actual})",
    "confidence (%)": "уверенность (%)",
    "as sure as right": "уверенность равна точности",
    "test images": "тестовые изображения",
    "bins of {few} images or more": "интервалы, в которых от {few} изображений",
}
NAMES = (
    lesson_words.NAMES
    | {  # classes of CIFAR-10, the factors of params.yaml, parts of a network and beginnings of a training
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
        "no dropout": "отказ от дропаута",
        "double dropout": "двойной дропаут",
        "no augmentation": "отказ от аугментации",
        "flip only": "одни отражения без сдвигов",
        "shift only": "одни сдвиги без отражений",
        "and cutout": "добавление вырезания (cutout)",
        "and mixup": "добавление смешивания (mixup)",
        "half the filters": "половина фильтров",
        "double filters": "удвоенное число фильтров",
        "one convolution a block": "одна свёртка в блоке",
        "three convolutions a block": "три свёртки в блоке",
        "kernel 5×5": "ядро 5×5",
        "average pooling": "усредняющий пулинг",
        "strided convolution": "свёртка с шагом 2 вместо пулинга",
        "sigmoid": "сигмоида",
        "tanh": "гиперболический тангенс",
        "rate × ⅓": "скорость обучения × ⅓",
        "rate × 3": "скорость обучения × 3",
        "rate × 10": "скорость обучения × 10",
        "cosine schedule": "косинусное расписание",
        "batch 128": "размер пакета 128",
        "batch 512": "размер пакета 512",
        "label smoothing": "сглаживание меток",
        "weight decay": "затухание весов",
        "global pooling": "глобальный пулинг",
        "standardised inputs": "стандартизованный вход",
        "inputs 0 to 255": "вход от 0 до 255",
        "input": "вход",
        "first layer": "первый слой",
        "head": "голова",
        "stages": "ступени",
        "classifier": "классификатор",
        "flip": "отражение",
        "shift": "сдвиг",
        "batch": "пакет",
        "cost": "вычисления",
        "from scratch": "с нуля",
        "frozen": "замороженные признаки",
        "fine-tuned": "дообученные признаки",
    }
)


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
        """A difference with its sign; no −0.00."""
        return "–" if math.isnan(value) else self._spelled(f"{round(value, digits) + 0.0:+,.{digits}f}")

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
