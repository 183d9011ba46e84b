"""Follow names from attention code to what it may run, method by method."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain

from theria_lint.sources.source_text import find_statement_end
from theria_lint.static import attention_names
from theria_lint.static.class_lineage import UNNAMED_ENTRIES
from theria_lint.static.dataflow import COLLECTING, PARAMETRIZING
from theria_lint.static.prefilter.block_graph import BlockGraph
from theria_lint.static.prefilter.entry_points import may_method_be_entry_point, may_take_gradients, names_multihead
from theria_lint.static.prefilter.textual_names import NEAR, find_word
from theria_lint.static.prefilter.top_level_blocks import (
    DEFINED,
    DEFINED_CLASS,
    IDENTIFIER,
    CodePiece,
    TopLevelBlock,
)

INIT = "__init__"
# In a module of more statements and definitions blocks are followed as a whole: to ask this of each may take long.
_MOST_STATEMENTS = 2000
# After so many searches of the text for a name everything is followed in one go.
_MOST_SEARCHES = 200
# A definition's name is passed over, and what follows the first member of a name.
_CHAIN = re.compile(r"(?<!\w)(?:def|class)[ \t]+\w+|(?<![\w.)\]])([^\W\d]\w*)(?:[\s\\]*\.[\s\\]*([^\W\d]\w*))?")
_OF_MEMBER = re.compile(r"(?<![\w.)\]])([^\W\d]\w*)[\s\\]*\.[\s\\]*\w+[\s\\]*\.[\s\\]*([^\W\d]\w*)")
_INSTANCE = re.compile(r"def[ \t]+\w+[^(\n]*\([\s\\]*(\w+)")
_OF_SUPER = re.compile(r"super[\s\\]*\([^()]*\)[\s\\]*\.[\s\\]*(\w+)")
# Decorators, one of which switches recording off.
_SWITCHED_OFF = re.compile(r"\s*(?:@[^\n]*\n\s*)*?@[\w.]*(?:no_grad|inference_mode)\b")
_OWNER = re.compile(r"(?<!\w)(\w+)[\s\\]*\.\Z")
# One of some in ``self.a, self.b = …`` too.
_MEMBER = re.compile(r"\.(\w+)[\s\\]*(?:[,)\]][^=\n]{0,200})?=(?!=)")
# A method of an attribute, which may put what it is given into it: ``self.layers.append(layer)``.
_FILLED_MEMBER = re.compile(r"(?<![\w.])\w+[\s\\]*\.[\s\\]*(\w+)[\s\\]*\.[\s\\]*\w+[\s\\]*\(")
_PARAMETRIZED = re.compile(rf"{PARAMETRIZING}[\s\\]*\([\s\\]*\w+[\s\\]*\.[\s\\]*(\w+)")
_MEMBERS = (_MEMBER, _FILLED_MEMBER, _PARAMETRIZED)
_CALLED = re.compile(r"def[ \t]+(?:forward|__call__)\b")
# The names that a statement binds, or a loop; and a call that puts something into a list.
_BINDING = (
    re.compile(r"\n[ \t]++([\w, \t]++)(?::[^=\n]*+)?+[-+*/@|&]?=(?!=)"),
    re.compile(r"for[ \t]+([\w, \t()]+)[ \t]in\b"),
)
# Beyond so many an attribute is taken to be made of all that its class says.
_MOST_LOCALS = 50
_FILLING = re.compile(rf"\.(?:{'|'.join(sorted(COLLECTING))})\(")


class ReachedCode:
    """The pieces of a module that attention code leads to by the names that it says, or what may run such code."""

    def __init__(self, graph: BlockGraph) -> None:
        self._graph = graph
        self._searches = 0
        self._running: dict[CodePiece, bool] = {}
        self._roots: dict[tuple[TopLevelBlock, bool], set[CodePiece]] = {}
        self._members: dict[TopLevelBlock, dict[str, set[str]]] = {}
        self._said: dict[CodePiece, set[str]] = {}

    def find_running(self, block: TopLevelBlock, offset: int) -> list[CodePiece]:
        """The pieces that have to run for the code at a place to count, as far as they may run."""
        if not self._is_told_apart:
            return [CodePiece(block, block.text, is_statement=False)] if self._graph.has_way(block) else []
        piece = block.find_piece(offset)
        found = [piece]
        if block.is_class() and piece.method in (None, INIT):
            found += self._list_instance_entries(block)
        return list(filter(self._may_run, found))

    @cached_property
    def _is_told_apart(self) -> bool:
        return len(self._graph.blocks.all) + self._graph.blocks.masked.count("def ") <= _MOST_STATEMENTS

    def _may_run(self, piece: CodePiece) -> bool:
        """Whether a way may lead to a piece from attention code, or from what runs some."""
        if piece in self._running:
            return self._running[piece]
        if self._searches > _MOST_SEARCHES:
            return piece in self._reached
        seen = {piece}
        stack = [piece]
        followed: set[str] = set()
        callers: list[CodePiece] = []
        runs = False
        while stack and not runs:
            current = stack.pop()
            roots = self._collect_roots(current.block, attends=True)
            runs = self._running.get(current, False) or current in roots
            callers += [current] if current in self._collect_roots(current.block, attends=False) else []
            if not current.names.isdisjoint(UNNAMED_ENTRIES):
                handing = self._list_heirs_constructors(current.block)
                stack += (found for found in handing if found not in seen)
                seen.update(handing)
            for name in self._list_names_in_use(current) - followed:
                followed.add(name)
                self._searches += 1
                new = set(self._find_users(name)) - seen
                seen |= new
                stack += new
        runs = runs or any(self._graph.may_run_attention(caller.block) for caller in callers)
        if not runs:
            self._running.update(dict.fromkeys(seen, False))
        self._running[piece] = runs
        return runs

    def _list_names_in_use(self, piece: CodePiece) -> set[str]:
        """The names whose use may run a piece: its own, and those of the classes whose instances run it."""
        names = set(piece.names)
        if piece.block.is_class() and not piece.names.isdisjoint(UNNAMED_ENTRIES):
            names.update(*(heir.names for heir in self._graph.collect_heirs(piece.block)))
        return names

    def _list_heirs_constructors(self, block: TopLevelBlock) -> list[CodePiece]:
        """The constructors that may hand something to that of a class from which theirs inherits."""
        heirs = self._graph.collect_heirs(block) if block.is_class() else []
        return [piece for heir in heirs for piece in heir.get_pieces() if self._list_inherited_from(piece)]

    def _find_users(self, name: str) -> Iterator[CodePiece]:
        """The pieces that use a name, and those that use an attribute to which one of them assigns it."""
        names = [name]
        for used in names:  # which grows
            for place in find_word(self._graph.blocks.masked, used):
                block = self._graph.blocks.find_block_at(place)
                if block is None or self._is_definition(block, place):
                    continue
                piece = block.find_piece(place)
                if not self._is_of_module(piece, place):
                    continue
                yield piece
                if block.is_class():
                    members = self._collect_members(block)
                    names += [attr for attr in members if used in members[attr] and attr not in names]

    def _is_definition(self, block: TopLevelBlock, place: int) -> bool:
        """Whether a place is the name of a definition, or a base of a class."""
        masked = self._graph.blocks.masked
        if masked.startswith(("def ", "def\t"), max(0, place - 4)) or masked.startswith("class ", max(0, place - 6)):
            return True
        return block.is_class() and place < block.begin + _find_header_end(block.text)

    def _is_of_module(self, piece: CodePiece, place: int) -> bool:
        """Whether the name at a place stands alone, or is a member of the instance or of something of the module.

        Or a member of a member of the instance, which may be made of a class of the module.
        """
        masked = self._graph.blocks.masked
        before = masked[max(0, place - NEAR) : place].rstrip()
        if not before.endswith("."):
            return True
        owner = _OWNER.search(before)
        if owner is None:
            return before[:-1].rstrip().endswith(")")  # of super()
        instances = _INSTANCE.findall(piece.text)
        outer = _OWNER.search(before[: owner.start()].rstrip())
        return owner[1] in instances or self._graph.defines(owner[1]) or (outer is not None and outer[1] in instances)

    def collect_ways(self, pieces: Iterable[CodePiece]) -> set[TopLevelBlock]:
        """The blocks on the ways from attention code to some pieces, and from there to what makes it attention code."""
        if not self._is_told_apart:
            return self._graph.collect_all_ways({piece.block for piece in pieces})
        above = self._collect_above(pieces)
        below, stack = set[CodePiece](), list(above)
        while stack:
            piece = stack.pop()
            if piece not in below:
                below.add(piece)
                stack += (found for name in self._said[piece] for found in self._find_named(name))
        takers = {piece.block for piece in above if self._takes_gradients and _may_take_gradients_given(piece)}
        found = {piece.block for piece in (*above, *(below & self._leading))}
        return found | self._graph.collect_all_ways(takers)

    @cached_property
    def _leading(self) -> set[CodePiece]:
        """The pieces that lead to attention code, of this file or of another."""
        blocks = filter(self._graph.begins_attention, {piece.block for piece in self._reached})
        return self._collect_above(piece for block in blocks for piece in block.get_pieces())

    def _collect_above(self, pieces: Iterable[CodePiece]) -> set[CodePiece]:
        """Some pieces, and those from which names lead there."""
        found = set(pieces) & self._reached
        stack = list(found)
        while stack:
            piece = stack.pop()
            names = set(piece.names)
            if piece.block.is_class() and not piece.names.isdisjoint(UNNAMED_ENTRIES):
                names.update(*(heir.names for heir in self._graph.collect_heirs(piece.block)))
            for name in names:
                for user in self._saying.get(name, ()):
                    if user not in found:
                        found.add(user)
                        stack.append(user)
        return found

    @cached_property
    def _saying(self) -> dict[str, list[CodePiece]]:
        """The pieces that say a name which the module defines."""
        defined = self._by_name.keys() | self._graph.blocks.by_name.keys()
        table: dict[str, list[CodePiece]] = {}
        for piece in self._reached:
            for name in self._said[piece] & defined:
                table.setdefault(name, []).append(piece)
        return table

    def _list_instance_entries(self, block: TopLevelBlock) -> list[CodePiece]:
        """What may run when an instance of a class or of an heir is called, be it inherited."""
        line = {owner for heir in self._graph.collect_heirs(block) for owner in self._graph.collect_line(heir)}
        pieces = (piece for owner in line for piece in owner.get_pieces())
        return [piece for piece in pieces if not piece.names.isdisjoint(UNNAMED_ENTRIES)]

    @cached_property
    def _reached(self) -> set[CodePiece]:
        found: set[CodePiece] = set()
        followed: set[str] = set()
        stack = list(self._iter_roots())
        while stack:
            piece = stack.pop()
            if piece in found:
                continue
            found.add(piece)
            said = self._said[piece] = self._collect_said(piece)
            for name in said - followed:
                stack += self._find_named(name)
            followed |= said
        return found

    def _collect_said(self, piece: CodePiece) -> set[str]:
        """The names that a piece may use something of the module by: alone, or as members of it or of the instance."""
        instances = set(_INSTANCE.findall(piece.text))
        said: set[str] = set()
        own: set[str] = set(_OF_SUPER.findall(piece.text))
        for name, member in _CHAIN.findall(piece.text):
            said.add(name)
            if member and name in instances:
                own.add(member)
            elif member and (name in self._by_name or name in self._graph.blocks.by_name):
                said.add(member)
        said.update(
            method for name, method in _OF_MEMBER.findall(piece.text) if name in instances and method in self._by_name
        )
        for owner in self._graph.collect_line(piece.block) if piece.block.bases else (piece.block,):
            members = self._collect_members(owner)
            for member in members.keys() & own:
                said |= members[member]
        said.update(self._list_inherited_from(piece))
        return said | own

    def _iter_roots(self) -> Iterator[CodePiece]:
        for block in self._graph.blocks.all:
            yield from self._collect_roots(block, attends=True)
            if self._graph.may_run_attention(block):
                yield from self._collect_roots(block, attends=False)

    def _collect_roots(self, block: TopLevelBlock, *, attends: bool) -> set[CodePiece]:
        """The pieces of a block that may attend, or differentiate what they are given; or those that may be callers."""
        if (block, attends) not in self._roots:
            find = self._iter_attending if attends else self._iter_callers
            self._roots[block, attends] = set(find(block, block.get_pieces()))
        return self._roots[block, attends]

    def _iter_attending(self, block: TopLevelBlock, pieces: Iterable[CodePiece]) -> Iterator[CodePiece]:
        if self._takes_gradients:
            yield from (piece for piece in pieces if _may_take_gradients_given(piece))
        line = self._graph.collect_line(block)
        if not any(map(self._graph.is_entry_point, line)):
            return
        if not block.is_class():
            yield from () if block.named and _is_test(block, pieces) else pieces
            return
        every = any(names_multihead(owner.text) for owner in line)
        for piece in pieces:
            held = piece.method is not None and len(piece.names) > 1
            named = held or (every and piece.method not in (None, INIT)) or not piece.names.isdisjoint(UNNAMED_ENTRIES)
            if named or may_method_be_entry_point(piece.text) or self._graph.may_use_operation(piece.text):
                yield piece

    def _iter_callers(self, block: TopLevelBlock, pieces: Iterable[CodePiece]) -> Iterator[CodePiece]:
        for piece in pieces:
            if self._may_hand_over(piece):
                yield piece
            elif not block.is_class():
                held = not block.named or "lambda" in piece.text or DEFINED_CLASS.search(piece.text) is not None
                if held or (
                    not _is_test(block, pieces) and (len(piece.names) > 1 or _may_be_caller(piece, block.names))
                ):
                    yield piece
            elif piece.method in UNNAMED_ENTRIES:
                if _may_be_caller(piece, block.names):
                    yield piece
            elif piece.method is None:
                if piece.names & UNNAMED_ENTRIES or "lambda" in piece.text or DEFINED.search(piece.text) is not None:
                    yield piece
            elif not all(map(attention_names.is_bystander_name, piece.names - {piece.method})):
                yield piece

    def _may_hand_over(self, piece: CodePiece) -> bool:
        """Whether code may hand something to the constructor of another class, whose instances then call it."""
        if self._list_inherited_from(piece):
            return True
        named = (found for name in IDENTIFIER.findall(piece.text) for found in self._constructed.get(name, ()))
        return any(found is not piece.block for found in named)

    @cached_property
    def _constructed(self) -> dict[str, list[TopLevelBlock]]:
        """The classes that have a constructor, by name."""
        table: dict[str, list[TopLevelBlock]] = {}
        for block in self._graph.blocks.all:
            if block.is_class() and INIT in block.text:
                for name in block.names:
                    table.setdefault(name, []).append(block)
        return table

    def _list_inherited_from(self, piece: CodePiece) -> list[str]:
        """The classes of the module of whose constructor another makes use that inherits from them."""
        if piece.method != INIT or INIT not in _OF_SUPER.findall(piece.text):
            return []
        return [base for base in piece.block.bases if base in self._graph.blocks.by_name]

    @cached_property
    def _takes_gradients(self) -> bool:
        return may_take_gradients(self._graph.blocks.masked)

    @cached_property
    def _by_name(self) -> dict[str, list[CodePiece]]:
        """The pieces that define a name."""
        table: dict[str, list[CodePiece]] = {}
        for block in self._graph.blocks.all:
            for piece in block.get_pieces():
                for name in piece.names:
                    table.setdefault(name, []).append(piece)
        return table

    def _find_named(self, name: str) -> Iterator[CodePiece]:
        """What may run when a name is used: what is defined by it; of a class what runs without being named."""
        yield from self._by_name.get(name, ())
        for block in self._graph.blocks.by_name.get(name, ()):
            if block.is_class():
                for owner in self._graph.collect_line(block):
                    yield from (piece for piece in owner.get_pieces() if not piece.names.isdisjoint(UNNAMED_ENTRIES))

    def _collect_members(self, block: TopLevelBlock) -> dict[str, set[str]]:
        """The names that a class says where it assigns or fills an attribute, or a local name that this is made of."""
        if block not in self._members:
            table: dict[str, set[str]] = {}
            for match in chain.from_iterable(pattern.finditer(block.text) for pattern in _MEMBERS):
                table.setdefault(match[1], set()).update(IDENTIFIER.findall(_get_value(block.text, match.end())))
            if _CALLED.search(block.text):
                _follow_local_names(table, block.text)
            self._members[block] = table
        return self._members[block]


def _is_test(block: TopLevelBlock, pieces: Iterable[CodePiece]) -> bool:
    """Whether a function is a test, with nothing else in it."""
    return all(map(attention_names.is_test_name, chain(block.names, *(piece.names for piece in pieces))))


def _find_header_end(text: str) -> int:
    """Where the header of a class ends: its decorators, its name and its bases."""
    start = text.find("class") if text.startswith("class") else text.find("\nclass")
    return max(text.find(":\n", start), start)


def _may_be_caller(piece: CodePiece, names: Iterable[str]) -> bool:
    """Whether a function, or an entry of the class of such names, is of a kind whose results people differentiate."""
    if all(map(attention_names.is_bystander_name, names)):
        return False
    if piece.method is None and "return" not in piece.text and "yield" not in piece.text:
        return False
    return piece.method == "forward" or _SWITCHED_OFF.match(piece.text) is None


def _may_take_gradients_given(piece: CodePiece) -> bool:
    """Whether a function may differentiate through attention that it is given."""
    return may_take_gradients(piece.text) and not all(map(attention_names.is_bystander_name, piece.names))


def _follow_local_names(members: dict[str, set[str]], text: str) -> None:
    """Add to what attributes are made of what the local names among it are made of."""
    places: dict[str, list[int]] = {}
    for match in chain.from_iterable(pattern.finditer(text) for pattern in _BINDING):
        for name in IDENTIFIER.findall(match[1]):
            places.setdefault(name, []).append(match.end())
    for match in _FILLING.finditer(text):
        owner = IDENTIFIER.findall(text, max(0, match.start() - NEAR), match.start())
        places.setdefault(owner[-1] if owner else "", []).append(match.end())
    values: dict[str, set[str]] = {}
    every: set[str] | None = None
    for attribute, made in members.items():
        waiting, followed = [name for name in made if name in places], 0
        while waiting:
            name = waiting.pop()
            followed += 1
            if name not in values:
                values[name] = {said for place in places[name] for said in IDENTIFIER.findall(_get_value(text, place))}
            new = values[name] - made
            made |= new
            waiting += [said for said in new if said in places]
            if followed > _MOST_LOCALS:  # it may be made of anything
                every = set(IDENTIFIER.findall(text)) if every is None else every
                members[attribute], waiting = every, []


def _get_value(text: str, place: int) -> str:
    """What is assigned by the statement around a place, from there on."""
    end = text.find("\n", place)
    line = text[place : end if end >= 0 else len(text)]
    if (
        line.count("(") == line.count(")")
        and not line.endswith(("\\", "[", "{", "\\\r"))
        and "[" not in line
        and "{" not in line
    ):
        return line
    return text[place : find_statement_end(text, place)]
