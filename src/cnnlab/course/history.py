"""The section of the lesson on history and applications: the slides' dates and the handout's list, with sources."""

from cnnlab.report.document import Page

# Year, who, what, source, what the course says
HISTORY = (
    (
        "1968",
        "D. Hubel, T. Wiesel",
        "cells of a monkey's visual cortex respond to bars of one orientation",
        "doi:10.1113/jphysiol.1968.sp008455",
        "slides: 1968",
    ),
    (
        "1980",
        "K. Fukushima",
        "Neocognitron: layers of feature detectors alternate with layers that tolerate shifts; no backpropagation",
        "doi:10.1007/BF00344251",
        "handout: 1980",
    ),
    (
        "1989",
        "Y. LeCun et al.",
        "a convolutional network, trained by backpropagation, reads handwritten postcodes",
        "doi:10.1162/neco.1989.1.4.541",
        "slides: proposed in 1988",
    ),
    (
        "1998",
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner",
        "LeNet-5; a system with such networks reads bank cheques",
        "doi:10.1109/5.726791",
        "slides: the first convolutional network",
    ),
    (
        "2001",
        "P. Viola, M. Jones",
        "finding faces in real time with hand-crafted features",
        "doi:10.1109/CVPR.2001.990517",
        "handout: 2001",
    ),
    (
        "2012",
        "A. Krizhevsky, I. Sutskever, G. Hinton",
        "AlexNet wins the ImageNet challenge: 15.3 % top-5 error, the second 26.2 %",
        "doi:10.1145/3065386",
        "slides: 2012",
    ),
    (
        "2014",
        "K. Simonyan, A. Zisserman",
        "VGG: up to 19 layers, all convolutions 3×3",
        "arXiv:1409.1556",
        "handout: in its literature",
    ),
    (
        "2015",
        "K. He, X. Zhang, S. Ren, J. Sun",
        "ResNet: skip connections, up to 152 layers; 3.57 % top-5 error on ImageNet",
        "arXiv:1512.03385",
        "slides: better than a trained person",
    ),
    (
        "2016",
        "C. Szegedy et al.",
        "Inception-v4: filters of several sizes side by side",
        "arXiv:1602.07261",
        "handout: a modern network",
    ),
)
# Application, whom the handout names, an example from the literature
APPLICATIONS = (
    ("the class of the object in a photograph", "", "Krizhevsky et al. 2012, doi:10.1145/3065386"),
    ("where the object is", "", "Girshick et al. 2014 (R-CNN), arXiv:1311.2524"),
    ("recognising faces", "Viola, Jones", "Taigman et al. 2014 (Facebook), doi:10.1109/CVPR.2014.220"),
    ("labelling images", "Google, Amazon, Facebook", "Gong et al. 2013 (Google), arXiv:1312.4894"),
    ("visual search", "Google", "Jing et al. 2015 (Pinterest), arXiv:1505.07647"),
    ("recommending clothes", "Amazon", "McAuley et al. 2015, arXiv:1506.04757"),
    ("tagging people in social networks", "", "Schroff et al. 2015 (Google), arXiv:1503.03832"),
    ("medical images", "", "Gulshan et al. 2016, doi:10.1001/jama.2016.17216"),
    ("predicting illness", "", "Nguyen et al. 2016, arXiv:1607.07519"),
    ("digits on bank cheques", "", "LeCun et al. 1998, doi:10.1109/5.726791"),
    ("analysing text", "", "Kim 2014, arXiv:1408.5882"),
    ("forecasting rain", "", "Shi et al. 2015, arXiv:1506.04214"),
)


def write(page: Page) -> None:
    """Write the section to `page`."""
    page.heading("History and applications")
    rows = [dict(zip(("year", "who", "what", "source", "said"), row, strict=True)) for row in HISTORY]
    columns = {
        "year": "{year}",
        "who": "{who:name}",
        "what": "{what:message}",
        "source": "{source}",
        "in the course": "{said:message}",
    }
    page.records(rows, columns, 5)
    page.text(
        "The slides name 1988 and 1998 for the first convolutional network. LeCun's first paper on one appeared in "
        "1989; W. Zhang et al. (doi:10.1364/AO.29.004790) trained another in the same years; LeNet-5 came later. The "
        "trained person is one annotator with 5.1 % top-5 error on 1,500 images (arXiv:1409.0575); a network without "
        "skip connections was below that, with 4.94 %, some months before ResNet (arXiv:1502.01852)."
    )
    page.heading("Applications in the handout, each with an example", 3)
    rows = [dict(zip(("use", "who", "example"), row, strict=True)) for row in APPLICATIONS]
    for row in rows:
        row["who"] = row["who"] or "–"
    page.records(rows, {"application": "{use:message}", "named in the handout": "{who}", "example": "{example}"}, 3)
    page.text("This project classifies images; the networks of the other applications are built from the same layers.")
