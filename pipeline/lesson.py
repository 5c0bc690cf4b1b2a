"""Stage lesson: the course's tables, examples and networks, and what trained networks see, into reports/lesson.*"""

from cnnlab import errors, params
from cnnlab.evidence.lesson import LESSON, write_lesson
from cnnlab.evidence.words import Language


def main() -> None:
    parameters = params.load()
    from cnnlab.see.course import write_course  # noqa: PLC0415  # TensorFlow takes seconds to import

    write_course(parameters, LESSON, Language(parameters.report.language))
    write_lesson(parameters)


if __name__ == "__main__":
    errors.run(main)
