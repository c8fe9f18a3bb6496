"""The walk of examples/office with its PHP step. Not collected by script/test: it fails where there is no PHP.

The rule: what needs a toolkit that pip does not install is named check_*.py and run by `tox -e interop`, by name.
"""

import shutil

from office_walk import walk


def test_the_walk_with_ten_lines_of_php(tmp_path):
    assert shutil.which("php"), "this needs PHP with its soap extension: apt-get install php-cli php-soap"
    with walk(tmp_path, php=True) as made:
        (read,) = [said for block, said in made.said.items() if block.startswith("php ")]
        assert read == "96 quarter hours, 20.158 kWh\n"
