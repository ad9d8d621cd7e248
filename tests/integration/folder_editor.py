"""Edits a folder at random, as a program of its own: FOLDER OPERATIONS SEED."""

from __future__ import annotations

import random
import shutil
import sys
import time
from pathlib import Path


def edit(folder: Path, operations: int, chance: random.Random) -> None:
    for number in range(operations):
        files = sorted(folder.rglob("*.md"))
        folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
        text = "\n".join(chance.choice("abcdefgh") * chance.randint(1, 40) for _ in range(chance.randint(0, 30)))
        kind = chance.randrange(10)
        file = chance.choice(files) if files else None
        if kind <= 2 or file is None:
            (chance.choice(folders) / f"n{number}.md").write_text(text)
        elif kind <= 4:
            file.write_text(text)
        elif kind == 5:
            temporary = file.with_name(f".{file.name}.tmp")
            temporary.write_text(text)
            temporary.replace(file)
        elif kind == 6:
            file.unlink()
        elif kind == 7:
            file.rename(chance.choice(folders) / f"m{number}.md")
        elif kind == 8:
            new = chance.choice(folders) / f"d{number}"
            new.mkdir()
            (new / f"n{number}.md").write_text(text)
        elif len(folders) > 1:
            moved = chance.choice(folders[1:])
            if chance.random() < 0.3:
                shutil.rmtree(moved)
            else:
                moved.rename(folder / f"moved{number}")
        time.sleep(chance.choice([0, 0, 0.001, 0.01, 0.03]))


if __name__ == "__main__":
    edit(Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3])))
