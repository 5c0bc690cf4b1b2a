"""Stage lesson: the course's examples, methods and networks, from tables and figures, into reports/lesson.*"""

from cnnlab import errors, params
from cnnlab.course.page import write_lesson
from cnnlab.course.tables import LESSON
from cnnlab.report.language import Language


def main() -> None:
    parameters = params.load()
    from cnnlab.course.compute import write_course  # noqa: PLC0415  # TensorFlow takes seconds to import

    write_course(parameters, LESSON, Language(parameters.report.language))
    write_lesson(parameters)


if __name__ == "__main__":
    errors.run(main)
