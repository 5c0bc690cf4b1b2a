"""The Russian of the course's page, under the English; `words` has that of the homework's."""

RUSSIAN = {
    # headings
    "The lesson in numbers and pictures": "Урок в числах и картинках",
    "Before neural networks: templates, strokes, features": "До нейронных сетей: шаблоны, штрихи, признаки",
    "A picture is numbers": "Картинка — это числа",
    "Convolution": "Свёртка",
    "Parameters of a convolution: 3 × 3 × N × K": "Параметры свёрточного слоя: 3 × 3 × N × K",
    "Stride, padding, and the size of the answer": "Шаг, дополнение и размер выхода",
    "Receptive field: how many pixels does a neuron of each layer see?": (
        "Рецептивное поле: сколько пикселей видит нейрон каждого слоя?"
    ),
    "Activations": "Функции активации",
    "Pooling": "Пулинг",
    "Fully connected layers": "Полносвязные слои",
    "The lesson's four networks: what the course prints, what was measured": (
        "Четыре сети урока: что напечатано в курсе и что измерено"
    ),
    "How a deep neural network sees": "Как видит глубокая нейронная сеть",
    "Cells that answer to lines": "Клетки, которые откликаются на линии",
    "The anatomy of every network": "Анатомия каждой сети",
    # pictures
    "Test accuracy of the methods before networks, and of networks (dark)": (
        "Точность на тестовой выборке: методы до сетей и сети (тёмные)"
    ),
    "A class a column, ten at most: its template, a picture of it, its ink, and its edges": (
        "Столбец — класс, не более десяти: его шаблон, пример, чернила и контуры"
    ),
    "The slide's convolution, its answer with stride 1 and with stride 2": (
        "Свёртка со слайда, её выход с шагом 1 и с шагом 2"
    ),
    "The handout's picture of a vertical line, the filter, and its feature map": (
        "Вертикальная линия из методички, фильтр и карта признаков"
    ),
    "The pixels that one neuron of each of four 3×3 layers sees; darker: seen by more layers": (
        "Пиксели, которые видит один нейрон каждого из четырёх слоёв 3×3; темнее — видны большему числу слоёв"
    ),
    "What the middle unit of each layer sees of a picture": "Что видит на картинке средний нейрон каждого слоя",
    "The seven activations and, dashed, their derivatives": "Семь функций активации и (пунктиром) их производные",
    "The slide's 4×4 feature map, and its max, average and sum pooling": (
        "Карта признаков 4×4 со слайда и её пулинг: максимум, среднее и сумма"
    ),
    "Loss and accuracy of the lesson's networks against images seen": (
        "Потери и точность сетей урока в зависимости от числа просмотренных изображений"
    ),
    "Confusion matrix: shares of each true class in per cent": (
        "Матрица ошибок: доли каждого истинного класса в процентах"
    ),
    "How strongly units of the first layer answer to a bar at each angle": (
        "Как сильно нейроны первого слоя откликаются на полоску под каждым углом"
    ),
    "The filters of the first layer": "Фильтры первого слоя",
    "Feature maps of one picture, layer by layer": "Карты признаков одной картинки, слой за слоем",
    "The parts of pictures that excite a unit most": "Фрагменты картинок, которые возбуждают нейрон сильнее всего",
    "The picture that each class would like most": "Картинка, которая больше всего нравится каждому классу",
    "What decisions rest on: saliency, Grad-CAM, occlusion": (
        "На что опирается решение: значимость пикселей, Grad-CAM, заслонение"
    ),
    "The last hidden layer's answers on a plane": "Отклики последнего скрытого слоя на плоскости",
    # sentences
    "The course's tables, formulas, examples and networks in its own order, each computed or trained here, budget "
    "{budget}. The number after a sentence leads to the rows it was made from.": (
        "Таблицы, формулы, примеры и сети курса в его порядке, все вычислены или обучены здесь, бюджет {budget}. Номер "
        "после предложения ведёт к строкам, из которых оно получено."
    ),
    "**Raster**: a picture, its light and contrast evened out, is compared pixel by pixel with templates: with the "
    "mean of each class, or with every training picture (the {n} nearest vote).": (
        "**Растровая классификация**: картинка с выровненными светом и контрастом сравнивается пиксель за пикселем с "
        "шаблонами — со средним каждого класса или с каждой обучающей картинкой (голосуют {n} ближайших)."
    ),
    "**Structural**: how often lines across the drawing meet ink, its holes, and where its ink lies go through a "
    "decision tree.": (
        "**Структурная классификация**: сколько раз прямые поперёк рисунка встречают чернила, число дыр и расположение "
        "чернил подаются на решающее дерево."
    ),
    "**Features**: how strong edges of each direction are in each part of the picture (as HOG has them), for a "
    "linear classifier or the nearest pictures.": (
        "**Признаковая классификация**: насколько сильны контуры каждого направления в каждой части картинки (как в "
        "HOG) — для линейного классификатора или ближайших картинок."
    ),
    "Bold, dark in the picture: networks. Every method learnt from the images that variants without a validation "
    "size of their own learn from, of very large sets from a part; nothing was chosen by the test images, each "
    "scored once. Intervals of one training are over test images.": (
        "Жирным, на рисунке тёмным: сети. Каждый метод учился на тех же изображениях, что и варианты без "
        "собственного размера проверочной выборки, у очень больших наборов — на их части; по тестовым ничего не "
        "выбиралось, они использованы один раз. Интервалы одного обучения — по тестовым изображениям."
    ),
    "On {data} the best of these methods is {method}: right in {accuracy} of the test images (n = 1), and it keeps "
    "{count} numbers.": (
        "На {data} лучший из этих методов — «{method}»: верно {accuracy} тестовых изображений (n = 1); он хранит "
        "чисел: {count}."
    ),
    "A picture is a tensor of height × width × channels: 28×28×1 in grey, 32×32×3 in colour; a batch of pictures has "
    "one axis more.": (
        "Картинка — тензор высота × ширина × каналы: 28×28×1 у серой, 32×32×3 у цветной; у пакета картинок осей на "
        "одну больше."
    ),
    "The filter lies on a part of the picture; what lies on each other is multiplied, and the sum is one number of the "
    "answer. Then the filter moves on by the stride.": (
        "Фильтр накладывается на часть картинки; совпавшие числа перемножаются, их сумма — одно число выхода. Затем "
        "фильтр сдвигается на шаг."
    ),
    "The slide prints {printed} and says stride 2. These are the first three rows and columns of the answer with "
    "stride 1 (dashed); with stride 2 this picture and this filter give {answer}. The size, {size}×{size}, is right.": (
        "На слайде напечатано {printed} и указан шаг 2. Это первые три строки и столбца выхода с шагом 1 (пунктир); с "
        "шагом 2 эти картинка и фильтр дают {answer}. Размер, {size}×{size}, указан верно."
    ),
    "The handout's filter for a vertical line: it answers 3 where three pixels of the line lie under it; the largest "
    "answer, {output}, is what the handout prints.": (
        "Фильтр вертикальной линии из методички: он отвечает 3 там, где под ним три пикселя линии; наибольший отклик, "
        "{output}, и напечатан в методичке."
    ),
    "K filters of 3 × 3 weights on each of N channels, and a bias each. Each filter makes one feature map, whatever "
    "the size of the picture.": (
        "K фильтров по 3 × 3 веса на каждый из N каналов и по одному смещению. Каждый фильтр даёт свою карту "
        "признаков, каким бы ни был размер картинки."
    ),
    "W₂ = (W₁ − F + 2P) / S + 1, rounded down, with W₁ pixels in a row, a filter F wide, 2P pixels of padding at both "
    "edges together, and stride S; as many maps as filters. Padding same adds what keeps ⌈W₁ / S⌉; valid adds none.": (
        "W₂ = (W₁ − F + 2P) / S + 1 с округлением вниз: W₁ — пикселей в строке, F — ширина фильтра, 2P — пикселей "
        "дополнения с обоих краёв вместе, S — шаг; карт столько, сколько фильтров. Same дополняет так, чтобы осталось "
        "⌈W₁ / S⌉, valid не дополняет."
    ),
    "Each 3×3 layer sees one more pixel on every side: 3, 5, 7, 9 across. A stride or a pool of S makes every later "
    "layer's step S times as wide.": (
        "Каждый слой 3×3 видит ещё по одному пикселю с каждой стороны: 3, 5, 7, 9 в поперечнике. Шаг или пулинг S "
        "делает шаг всех следующих слоёв в S раз шире."
    ),
    "Misprints of the slides: leaky ReLU is max(0.1x, x), not max(−0.1x, x); the bars around |x| are missing in "
    "softsign; ELU comes near −α and never reaches it, so its range is open.": (
        "Опечатки слайдов: leaky ReLU — это max(0,1x; x), а не max(−0,1x; x); в softsign потерян модуль |x|; ELU "
        "приближается к −α, но не достигает его, поэтому область значений открыта."
    ),
    "Of every 2×2 part of the map one number stays: the largest, the mean, or the sum. It halves height and width, "
    "has no parameters, and forgets where in the part an answer was.": (
        "От каждого участка 2×2 карты остаётся одно число: наибольшее, среднее или сумма. Высота и ширина уменьшаются "
        "вдвое, параметров нет, а место отклика внутри участка забывается."
    ),
    "Every input has a weight to every unit: a product with a matrix, plus biases. A convolution is one with few "
    "weights that repeat: written as a matrix, the slide's convolution with stride 2 has {weights} entries, {zeros} "
    "of them 0, and gives the same {answers} numbers.": (
        "У каждого входа есть вес к каждому нейрону: это произведение на матрицу плюс смещения. Свёртка — то же с "
        "немногими повторяющимися весами: у свёртки со слайда с шагом 2, записанной матрицей, элементов {weights}, "
        "из них нулей {zeros}, и она даёт те же числа ({answers})."
    ),
    "A fully connected layer in place of the slides' first convolution, with as many units ({units}), would have "
    "{many} parameters; the convolution has {few}.": (
        "У полносвязного слоя на месте первой свёртки слайдов с тем же числом нейронов ({units}) было бы параметров "
        "{many}; у свёртки их {few}."
    ),
    "Every network was built layer for layer and trained with the recipe of the course. Validation images were set "
    "aside from the training images; the test set was scored once, after training.": (
        "Каждая сеть построена слой за слоем и обучена по рецепту курса. Проверочные изображения отделены от "
        "обучающих; тестовая выборка использована один раз, после обучения."
    ),
    "{title}: {points} percentage points against the course's single training (n = {n}).": (
        "{title}: {points} п. п. против единственного обучения курса (n = {n})."
    ),
    "Intervals, at 95 %, of one training cover the choice of test images, of several the luck of the seed; `budget: "
    "full` trains five. The course validates on the test set and trains LeNet-5 and the CIFAR-10 network on all "
    "training images.": (
        "Интервалы (95 %) одного обучения отражают выбор тестовых изображений, нескольких — случайность начального "
        "значения; `budget: full` обучает пять раз. В курсе проверка идёт на тестовой выборке, а LeNet-5 и сеть для "
        "CIFAR-10 учатся на всех обучающих изображениях."
    ),
    "Lines: training, with dropout and augmentation on, smoothed. Markers: validation after an epoch, without them: it "
    "can be better.": (
        "Линии: обучение, с дропаутом и аугментацией, сглажено. Значки: проверка после эпохи, без них, поэтому она "
        "может быть лучше."
    ),
    "Trained {seconds}, {speed} images/s: validation accuracy {validation}, test accuracy {test} (n = {n}).": (
        "Обучение {seconds}, изображений в секунду: {speed}; точность на проверочной выборке {validation}, на тестовой "
        "{test} (n = {n})."
    ),
    "Of each data set the variant with the highest validation accuracy is looked into, with validation pictures. `make "
    "see VARIANT=name PICTURE=file` does it for any trained network and picture.": (
        "Для каждого набора данных рассмотрен вариант с наибольшей точностью на проверочной выборке, на её "
        "картинках. `make see VARIANT=имя PICTURE=файл` делает то же для любой обученной сети и картинки."
    ),
    "Hubel and Wiesel (1968) turned a bar before an eye and heard cells of the visual cortex answer to one angle. Here "
    "the bar is turned before the units of the first layer.": (
        "Хьюбел и Визель (1968) поворачивали полоску перед глазом и слышали, что клетки зрительной коры отвечают на "
        "один угол. Здесь полоску поворачивают перед нейронами первого слоя."
    ),
    "{variant}: of {units} units of the first layer {share} answer at least twice as strongly to their best angle as "
    "to their worst.": (
        "{variant}: нейронов в первом слое {units}, из них {share} отвечают на свой лучший угол по меньшей мере вдвое "
        "сильнее, чем на худший."
    ),
    "Of {images} pictures {share} have a nearest neighbour of their own class on this plane.": (
        "У {share} картинок (из {images}) ближайший сосед на этой плоскости того же класса."
    ),
    "Such features serve other data, too: the second question of the [homework's page](homework.md) measures it.": (
        "Такие признаки служат и другим данным: это измерено во втором вопросе [домашнего задания](homework.md)."
    ),
    "Each filter of the first layer, from its darkest weight to its brightest; in colour where it sees colour.": (
        "Каждый фильтр первого слоя, от наименьшего веса (тёмный) до наибольшего; в цвете, если он видит цвет."
    ),
    "Feature maps, the eight strongest of each layer: every filter makes a map of its own; deeper ones are coarser and "
    "answer to larger parts.": (
        "Карты признаков, восемь сильнейших каждого слоя: каждый фильтр формирует собственную карту; глубокие — "
        "грубее и откликаются на большие части."
    ),
    "Units that are most choosy among the pictures, in the first and in the last maps, and the parts that excite them "
    "most: the hierarchy of features, from spots and edges to parts of things. Grey: outside the picture.": (
        "Самые избирательные нейроны первых и последних карт и фрагменты, которые возбуждают их сильнее всего: "
        "иерархия признаков от пятен и контуров до частей предметов. Серое — за краем картинки."
    ),
    "Activation maximisation: for each class, ten at most, what the climb from the data's mean colour with a little "
    "noise towards a large logit arrives at.": (
        "Максимизация активации: к чему для каждого класса (не более десяти) приходит подъём к большому логиту от "
        "среднего цвета данных с небольшим шумом."
    ),
    "Dark is much. Saliency: pixels that move the logit. Grad-CAM: where the last maps speak for the class. "
    "Occlusion: where a grey square lowers its probability (dark) or raises it (light). The surest mistake is last, "
    "where there is one.": (
        "Тёмное — много. Значимость: пиксели, сдвигающие логит. Grad-CAM: где последние карты говорят за класс. "
        "Заслонение: где серый квадрат снижает вероятность (тёмное) или повышает (светлое). Последней, если она "
        "есть, — самая уверенная ошибка."
    ),
    "The last hidden layer's answers to validation pictures, on a plane by t-SNE: neighbours mean something, axes "
    "and far distances do not.": (
        "Отклики последнего скрытого слоя на проверочные картинки, t-SNE на плоскость: соседство что-то значит, оси и "
        "большие расстояния — нет."
    ),
    "One picture, one pass forward; memory of all answers as float32. A unit before the head sees so many pixels; "
    "more than the picture has: it sees padding, too. `make anatomy NET=name` prints the layers.": (
        "Одна картинка, один прямой проход; память всех выходов во float32. Столько пикселей видит нейрон перед "
        "головой; больше, чем в картинке, — значит, он видит и дополнение. `make anatomy NET=имя` печатает слои."
    ),
    "The handout's pyramid: each of them has fewer units in its last hidden layer than in its first convolution.": (
        "Пирамида из методички: у каждой в последнем скрытом слое меньше нейронов, чем в первой свёртке."
    ),
    "output {output}": "выход {output}",
    "not printed": "не напечатано",
    "no accuracy": "без точности",
    "not trained: no variant {name}": "не обучена: нет варианта {name}",
    "all": "все",
    # tables' headings and cells
    "data set": "набор данных",
    "layer": "слой",
    "layers": "слоёв",
    "N": "N",
    "K": "K",
    "test accuracy": "точность на тестовой выборке",
    "MLflow run": "запуск MLflow",
    "test accuracy (95 % interval)": "точность на тестовой выборке (95%-й интервал)",
    "training images": "обучающих изображений",
    "numbers kept": "хранит чисел",
    "pictures told a second": "картинок в секунду",
    "name": "название",
    "value": "значение",
    "shape": "форма",
    "scalar": "скаляр",
    "vector": "вектор",
    "row vector": "вектор-строка",
    "column vector": "вектор-столбец",
    "matrix": "матрица",
    "tensor": "тензор",
    "weights and biases": "веса и смещения",
    "answer": "выход",
    "(W₁ − F + 2P) / S + 1": "(W₁ − F + 2P) / S + 1",
    "function": "функция",
    "derivative": "производная",
    "range": "область значений",
    "the course prints": "в курсе",
    "measured here": "измерено здесь",
    "n seeds": "n запусков",
    "parameters, course": "параметров, курс",
    "parameters, here": "параметров, здесь",
    "seed": "seed",
    "memory, KiB": "память, КиБ",
    "sees, pixels": "видит, пикселей",
    "units, first layer": "нейронов, первый слой",
    "units, last hidden": "нейронов, последний скрытый",
    "MFLOP": "MFLOP",
    # in pictures
    "test accuracy (%)": "точность на тестовой выборке (%)",
    "saliency": "значимость",
    "Grad-CAM": "Grad-CAM",
    "occlusion": "заслонение",
    "unit {unit}": "нейрон {unit}",
    "angle of the bar (degrees; 0: horizontal, 90: vertical)": "угол полоски (градусы; 0 — горизонтальная, 90 — "
    "вертикальная)",
    "largest answer": "наибольший отклик",
    "picture, padding 1; small: the filter": "картинка, дополнение 1; мелко: фильтр",
    "layer {number}: {side}×{side} = {pixels} pixels": "слой {number}: {side}×{side}, пикселей: {pixels}",
    "answer, stride {stride}": "выход, шаг {stride}",
    "{layer}\nsees {side}×{side}": "{layer}\nвидит {side}×{side}",
    "±{points} points": "±{points} п. п.",
    "{name}, {percent} %\n(is {actual})": "{name}, {percent} %\n(на деле {actual})",
    "{name}, {percent} %": "{name}, {percent} %",
    "{layer}\nunit {unit}, sees {side}×{side}": "{layer}\nнейрон {unit}, видит {side}×{side}",
    "template": "шаблон",
    "picture": "картинка",
    "ink": "чернила",
    "edges": "контуры",
    "max pooling": "максимум",
    "average pooling": "среднее",
    "sum pooling": "сумма",
    "filter": "фильтр",
    "feature map": "карта признаков",
}

NAMES = {
    "mean template of each class": "средний шаблон каждого класса",
    "strokes and holes with a decision tree": "штрихи и дыры с решающим деревом",
    "edge directions with a linear classifier": "направления контуров с линейным классификатором",
    "edge directions with nearest pictures": "направления контуров с ближайшими картинками",
    "every picture a template": "каждая картинка — шаблон",
    "Vertical-line detector (handout)": "Детектор вертикальной линии (методичка)",
    "LeNet-5 (handout)": "LeNet-5 (методичка)",
    "MNIST network (slides)": "Сеть для MNIST (слайды)",
    "CIFAR-10 network (handout)": "Сеть для CIFAR-10 (методичка)",
}
