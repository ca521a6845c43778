"""Texts of many types, all invented here, by file name. Only data: what is done with them stands in make_golden.py."""

TEXTS = {
    "orchard.py": '''"""Counts apples in an orchard."""

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
''',
    "queue.rs": '''//! A bounded queue.
use std::collections::VecDeque;

/// Holds at most `bound` items.
#[derive(Debug, Default)]
pub struct Bounded<T> {
    items: VecDeque<T>,
    bound: usize,
}

impl<T> Bounded<T> {
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.items.len() == self.bound {
            return Err(item);
        }
        self.items.push_back(item);
        Ok(())
    }

    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }
}
''',
    "ferry.go": '''package main

import (
	"fmt"
	"net/http"
	"sync"
)

type ferry struct {
	mu    sync.Mutex
	seats map[string]int
}

func (f *ferry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seats[r.URL.Path]++
	fmt.Fprintf(w, "seat %d\\n", f.seats[r.URL.Path])
}

func main() {
	if err := http.ListenAndServe("127.0.0.1:0", &ferry{seats: map[string]int{}}); err != nil {
		panic(err)
	}
}
''',
    "ring.c": '''#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define RING_SIZE 16

struct ring {
    int items[RING_SIZE];
    size_t head, tail;
};

static int ring_push(struct ring *r, int item)
{
    size_t next = (r->tail + 1) % RING_SIZE;
    if (next == r->head)
        return -1;
    r->items[r->tail] = item;
    r->tail = next;
    return 0;
}

int main(void)
{
    struct ring r = {0};
    for (int i = 0; ring_push(&r, i) == 0; i++)
        printf("%d\\n", i);
    return EXIT_SUCCESS;
}
''',
    "shelf.cpp": '''#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace shelf {

class Book {
public:
    explicit Book(std::string title) : title_(std::move(title)) {}
    const std::string& title() const { return title_; }

private:
    std::string title_;
};

}  // namespace shelf

int main() {
    std::vector<std::unique_ptr<shelf::Book>> books;
    for (auto title : {"Maps", "Birds", "Rivers"}) books.push_back(std::make_unique<shelf::Book>(title));
    std::sort(books.begin(), books.end(), [](const auto& a, const auto& b) { return a->title() < b->title(); });
    for (const auto& book : books) std::cout << book->title() << std::endl;
}
''',
    "Lighthouse.java": '''package coast.lights;

import java.util.ArrayList;
import java.util.List;

public final class Lighthouse implements Comparable<Lighthouse> {
    private final String name;
    private final int height;

    public Lighthouse(String name, int height) {
        this.name = name;
        this.height = height;
    }

    @Override
    public int compareTo(Lighthouse other) {
        return Integer.compare(height, other.height);
    }

    public static void main(String[] args) {
        List<Lighthouse> lights = new ArrayList<>();
        lights.add(new Lighthouse("North", 42));
        lights.stream().map(l -> l.name).forEach(System.out::println);
    }
}
''',
    "Harbour.cs": '''using System;
using System.Collections.Generic;
using System.Linq;

namespace Coast.Harbours
{
    public record Boat(string Name, double Length);

    public class Harbour
    {
        private readonly List<Boat> boats = new();

        public event EventHandler<Boat>? Arrived;

        public void Moor(Boat boat)
        {
            boats.Add(boat);
            Arrived?.Invoke(this, boat);
        }

        public double Longest => boats.Max(b => b.Length);
    }
}
''',
    "carousel.js": '''const slides = document.querySelectorAll('.slide');
let current = 0;

function show(index) {
  slides.forEach((slide, i) => slide.classList.toggle('visible', i === index));
}

document.querySelector('#next').addEventListener('click', async () => {
  current = (current + 1) % slides.length;
  show(current);
  const response = await fetch(`/slides/${current}.json`);
  console.log(await response.json());
});

module.exports = { show };
''',
    "store.ts": '''import { EventEmitter } from 'events';

interface Item {
  readonly id: number;
  name?: string;
}

export class Store<T extends Item> extends EventEmitter {
  private items: Map<number, T> = new Map();

  public add(item: T): void {
    this.items.set(item.id, item);
    this.emit('added', item);
  }

  public find(id: number): T | undefined {
    return this.items.get(id);
  }
}

export type Names = Record<string, Item['name']>;
''',
    "garden.rb": '''require 'set'

module Garden
  class Bed
    attr_reader :plants

    def initialize(plants = [])
      @plants = Set.new(plants)
    end

    def plant(name)
      raise ArgumentError, 'no name' if name.nil? || name.empty?

      @plants << name
      self
    end

    def each(&block)
      @plants.sort.each(&block)
    end
  end
end

Garden::Bed.new(%w[kale leek]).plant('bean').each { |name| puts name }
''',
    "guestbook.php": '''<?php
declare(strict_types=1);

namespace Inn;

final class Guestbook
{
    private array $entries = [];

    public function sign(string $name, ?string $note = null): void
    {
        $this->entries[] = ['name' => $name, 'note' => $note ?? ''];
    }

    public function render(): string
    {
        return implode("\\n", array_map(fn ($e) => htmlspecialchars($e['name']), $this->entries));
    }
}

$book = new Guestbook();
$book->sign($_POST['name'] ?? 'nobody');
echo $book->render();
''',
    "backup.sh": '''#!/bin/bash
# Keeps the last three copies of a folder.
set -euo pipefail

source_dir="${1:?usage: $0 DIR TARGET}"
target="${2:?usage: $0 DIR TARGET}"

for n in 2 1; do
    if [ -d "$target.$n" ]; then
        rm -rf "$target.$((n + 1))"
        mv "$target.$n" "$target.$((n + 1))"
    fi
done
cp -a "$source_dir" "$target.1" && echo "done: $(du -sh "$target.1" | cut -f1)"
''',
    "Report.ps1": '''param(
    [Parameter(Mandatory = $true)]
    [string]$Path,
    [int]$Days = 7
)

function Get-OldFile {
    param([string]$Folder, [datetime]$Before)
    Get-ChildItem -Path $Folder -Recurse -File | Where-Object { $_.LastWriteTime -lt $Before }
}

$limit = (Get-Date).AddDays(-$Days)
Get-OldFile -Folder $Path -Before $limit | ForEach-Object {
    Write-Host "Old: $($_.FullName)"
} 
Write-Output "Finished at $(Get-Date -Format o)"
''',
    "clean.bat": '''@echo off
setlocal enabledelayedexpansion
rem Deletes build folders below the current one.
for /d /r . %%d in (build out) do (
    if exist "%%d" (
        echo Removing %%d
        rd /s /q "%%d"
    )
)
if %ERRORLEVEL% NEQ 0 goto failed
echo Done.
exit /b 0
:failed
echo Something went wrong.
pause
''',
    "tides.sql": '''CREATE TABLE harbour (
    id INTEGER PRIMARY KEY,
    name VARCHAR(80) NOT NULL UNIQUE
);

CREATE TABLE tide (
    harbour_id INTEGER NOT NULL REFERENCES harbour (id) ON DELETE CASCADE,
    at TIMESTAMP NOT NULL,
    height_cm INTEGER CHECK (height_cm BETWEEN -500 AND 2000)
);

INSERT INTO harbour (id, name) VALUES (1, 'North'), (2, 'South');

SELECT h.name, AVG(t.height_cm) AS mean_height
FROM harbour h
LEFT JOIN tide t ON t.harbour_id = h.id
WHERE t.at > '2024-01-01'
GROUP BY h.name
HAVING COUNT(*) > 10
ORDER BY mean_height DESC;
''',
    "sort.lua": '''local Sorter = {}
Sorter.__index = Sorter

function Sorter.new(items)
  local self = setmetatable({}, Sorter)
  self.items = items or {}
  return self
end

function Sorter:run(compare)
  table.sort(self.items, compare or function(a, b) return a < b end)
  for i, item in ipairs(self.items) do
    print(i, item)
  end
end

Sorter.new({ 3, 1, 2 }):run()
return Sorter
''',
    "Ledger.kt": '''package inn.ledger

import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow

data class Entry(val name: String, val cents: Long)

sealed class Outcome {
    object Accepted : Outcome()
    data class Refused(val reason: String) : Outcome()
}

class Ledger(private val entries: MutableList<Entry> = mutableListOf()) {
    fun add(entry: Entry): Outcome = when {
        entry.cents == 0L -> Outcome.Refused("nothing to book")
        else -> { entries += entry; Outcome.Accepted }
    }

    fun stream(): Flow<Entry> = flow { entries.forEach { emit(it) } }
}
''',
    "Compass.swift": '''import Foundation

enum Direction: String, CaseIterable {
    case north, east, south, west

    var opposite: Direction {
        switch self {
        case .north: return .south
        case .south: return .north
        case .east: return .west
        case .west: return .east
        }
    }
}

struct Compass {
    private(set) var heading: Direction = .north

    mutating func turnAround() {
        guard heading != heading.opposite else { return }
        heading = heading.opposite
    }
}

var compass = Compass()
compass.turnAround()
print(compass.heading.rawValue)
''',
    "Parser.hs": '''{-# LANGUAGE LambdaCase #-}
module Parser (Parser, parse, item, many1) where

import Control.Applicative (Alternative (..))
import Data.Char (isDigit)

newtype Parser a = Parser { parse :: String -> Maybe (a, String) }

instance Functor Parser where
  fmap f (Parser p) = Parser $ \\s -> case p s of
    Nothing -> Nothing
    Just (a, rest) -> Just (f a, rest)

item :: (Char -> Bool) -> Parser Char
item ok = Parser $ \\case
  (c : cs) | ok c -> Just (c, cs)
  _ -> Nothing

many1 :: Parser a -> Parser [a]
many1 p = undefined

digit :: Parser Char
digit = item isDigit
''',
    "harvest.json": '''{
  "farm": "Hill End",
  "year": 2024,
  "organic": true,
  "fields": [
    {"name": "east", "hectares": 3.5, "crop": "barley", "yield": [4.1, 3.9, null]},
    {"name": "west", "hectares": 2.25, "crop": "oats", "yield": [2.8]}
  ]
}
''',
    "events.jsonl": '''{"at": "2024-05-01T08:00:00Z", "kind": "start", "id": 1}
{"at": "2024-05-01T08:00:04Z", "kind": "step", "id": 2, "took_ms": 12.5}
{"at": "2024-05-01T08:00:09Z", "kind": "step", "id": 3, "took_ms": 9.75}
{"at": "2024-05-01T08:01:00Z", "kind": "stop", "id": 4, "reason": null}
''',
    "inventory.xml": '''<?xml version="1.0" encoding="UTF-8"?>
<inventory xmlns="urn:example:inventory" version="2">
  <item sku="A-1" count="12">
    <name>Lantern</name>
    <price currency="EUR">19.50</price>
  </item>
  <item sku="B-7" count="0">
    <name>Rope &amp; hook</name>
    <price currency="EUR">7.25</price>
  </item>
</inventory>
''',
    "index.html": '''<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>The Ferry</title>
  <link rel="stylesheet" href="style.css">
</head>
<body>
  <header><h1>The Ferry</h1></header>
  <main>
    <p>Leaves every <strong>hour</strong>, except when it does not.</p>
    <ul><li><a href="/north">North</a></li><li><a href="/south">South</a></li></ul>
    <form action="/book" method="post"><input name="seats" type="number"><button>Book</button></form>
  </main>
</body>
</html>
''',
    "timetable.html": '''<html>
<head>
<title>Timetable</title>
<script type="text/javascript">
  function hide(id) { document.getElementById(id).style.display = 'none'; }
</script>
</head>
<body bgcolor="#ffffff">
<div class="content" id="times">
<h2>Timetable</h2>
<table border="1" cellpadding="4">
<tr><th>From</th><th>To</th><th>At</th></tr>
<tr><td>North</td><td>South</td><td>08:00</td></tr>
<tr><td>South</td><td>North</td><td>09:00</td></tr>
</table>
<img src="boat.gif" alt="A boat"><br>
<a href="#" onclick="hide('times')">Hide</a>&nbsp;<a href="index.html">Back</a>
</div>
</body>
</html>
''',
    "style.css": '''@media (min-width: 40rem) {
  .card {
    display: grid;
    grid-template-columns: 1fr 2fr;
    gap: 1rem;
  }
}

:root { --accent: #0a6; }

body {
  font: 16px/1.5 system-ui, sans-serif;
  color: #222;
  margin: 0 auto;
}

a:hover, a:focus-visible { color: var(--accent); text-decoration: underline; }
''',
    "birds.csv": '''date,species,count,observer,place
2024-04-01,robin,3,Ada,garden
2024-04-01,wren,1,Ada,garden
2024-04-02,heron,2,Ben,"river, bend"
2024-04-02,robin,5,Ben,orchard
2024-04-03,kingfisher,1,Cleo,"river, bridge"
2024-04-04,magpie,7,Cleo,field
''',
    "README.md": '''# Ferry

A small timetable for a small boat.

## Install

```sh
pip install ferry
```

## Use

- `ferry north` prints the next departures
- `ferry south --json` prints them as JSON

See the [manual](docs/manual.md) for **all** options.

| Route | Minutes |
|-------|---------|
| north | 25      |
| south | 40      |
''',
    "service.yaml": '''apiVersion: apps/v1
kind: Deployment
metadata:
  name: ferry
  labels:
    app: ferry
spec:
  replicas: 2
  selector:
    matchLabels:
      app: ferry
  template:
    spec:
      containers:
        - name: ferry
          image: "registry.example/ferry:1.2"
          ports:
            - containerPort: 8080
''',
    "project.toml": '''[package]
name = "ferry"
version = "1.2.0"
edition = "2021"

[dependencies]
serde = { version = "1", features = ["derive"] }
tokio = "1"

[[bin]]
name = "ferry"
path = "src/main.rs"

[profile.release]
lto = true
''',
    "settings.ini": '''; Settings of the timetable
[general]
name=Ferry
language=en
timeout=30

[database]
host=127.0.0.1
port=5432
user=ferry

[logging]
level=info
file=ferry.log
''',
    "Dockerfile": '''FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make

FROM debian:bookworm-slim
COPY --from=build /src/ferry /usr/local/bin/ferry
USER nobody
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/ferry"]
''',
    "Makefile": '''CC ?= cc
CFLAGS += -O2 -Wall -Wextra
OBJECTS := main.o timetable.o tide.o

.PHONY: all clean test

all: ferry

ferry: $(OBJECTS)
	$(CC) $(LDFLAGS) -o $@ $^

%.o: %.c timetable.h
	$(CC) $(CFLAGS) -c -o $@ $<

test: all
	./ferry --self-test

clean:
	rm -f ferry $(OBJECTS)
''',
    "compass.svg": '''<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="120" height="120" viewBox="0 0 120 120">
  <title>Compass</title>
  <circle cx="60" cy="60" r="56" fill="none" stroke="#234" stroke-width="4"/>
  <path d="M60 10 L70 60 L60 110 L50 60 Z" fill="#c33"/>
  <text x="60" y="24" text-anchor="middle" font-size="12">N</text>
</svg>
''',
    "paper.tex": '''\\documentclass[11pt]{article}
\\usepackage{amsmath}
\\title{On the Waiting Time of Ferries}
\\author{A. Nobody}
\\begin{document}
\\maketitle
\\begin{abstract}
We show that one waits longer than one thinks.
\\end{abstract}
\\section{Introduction}
Let $X_1, X_2, \\dots$ be the intervals. Then, as in \\cite{feller},
\\begin{equation}
  \\mathbb{E}[W] = \\frac{\\mathbb{E}[X^2]}{2\\,\\mathbb{E}[X]} \\label{eq:wait}
\\end{equation}
and \\eqref{eq:wait} is the claim.
\\end{document}
''',
    "tides.diff": '''diff --git a/tides.py b/tides.py
index 3b18e51..a9c02d4 100644
--- a/tides.py
+++ b/tides.py
@@ -1,7 +1,8 @@
 def height(hour):
-    return 3 * hour
+    import math
+    return 3 * math.sin(hour / 6)
 
 
 def main():
     for hour in range(24):
         print(hour, height(hour))
''',
    "letter.txt": '''Dear neighbour,

the ferry did not run this morning, so the parcel you are waiting for is still on the other side. I have asked the
captain to bring it with the evening boat. If the wind keeps up he may not sail before Thursday, and then I shall walk
around by the bridge, as we used to do.

The hens are well. One of them has found her way into your garden again; please forgive her.

Yours, as ever.
''',
}
