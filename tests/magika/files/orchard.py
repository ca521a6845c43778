"""Counts apples in an orchard."""

import argparse
from dataclasses import dataclass, field


@dataclass
class Tree:
    name: str
    apples: list[int] = field(default_factory=list)

    def total(self) -> int:
        return sum(self.apples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    trees = [Tree(name, [len(name), 3]) for name in parser.parse_args().names]
    for tree in sorted(trees, key=Tree.total):
        print(f"{tree.name}: {tree.total()}")


if __name__ == "__main__":
    main()
