"""The copy of the script's folder and the wall around it. What can be tested without a fork server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unstuck.experiments import sandbox


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def template(tmp_path: Path, *roots: Path, sealed: bool = True) -> sandbox.Template:
    (tmp_path / "base").mkdir(exist_ok=True)
    return sandbox.Template([str(r) for r in roots], str(tmp_path / "base" / "template"), sealed=sealed)


def test_the_folders_are_the_working_directory_and_the_scripts_own_none_inside_another(tmp_path: Path) -> None:
    write(tmp_path / "p/src/train.py")
    here = str(tmp_path / "p")
    assert sandbox.folders(here, "src/train.py") == [here]
    assert sandbox.folders(here + "/src", "train.py") == [here + "/src"]
    assert sandbox.folders(here + "/src", None) == [here + "/src"]
    write(tmp_path / "other/run.py")
    assert sandbox.folders(here, "../other/run.py") == [str(tmp_path / "other"), here]
    (tmp_path / "p/link.py").symlink_to(tmp_path / "other/run.py")  # python imports from beside the real file
    assert sandbox.folders(here, "link.py") == [str(tmp_path / "other"), here]


def test_a_copy_holds_the_files_and_links_what_lies_beside(tmp_path: Path) -> None:
    project = tmp_path / "home/me/project"
    write(project / "train.py", "print(1)")
    write(project / "data/a.csv", "1,2")
    write(project / ".git/config", "x")
    write(tmp_path / "home/me/data/b.csv", "3,4")
    os.chmod(project / "train.py", 0o755)
    copy = template(tmp_path, project).copy(str(tmp_path / "base/1"))
    there = Path(copy.there(str(project)))
    assert (there / "train.py").read_text() == "print(1)"
    assert (there / "train.py").stat().st_mode & 0o777 == 0o755
    assert not (there / "data/a.csv").is_symlink()
    assert (there / "data/a.csv").stat().st_nlink == 1
    assert (there / ".git").is_symlink() and (there / ".git/config").read_text() == "x"
    assert (there / "../data/b.csv").read_text() == "3,4"
    assert copy.original(str(there / "train.py")) == str(project / "train.py")
    assert copy.there("/elsewhere/x") == "/elsewhere/x"


def test_links_inside_the_folder_lead_to_the_copy_others_to_the_original(tmp_path: Path) -> None:
    project = tmp_path / "p"
    write(project / "sub/x.txt", "x")
    write(tmp_path / "outside.txt", "y")
    (project / "relative").symlink_to("sub/x.txt")
    (project / "absolute").symlink_to(project / "sub/x.txt")
    (project / "folder").symlink_to(project / "sub")
    (project / "away").symlink_to(tmp_path / "outside.txt")
    (project / "broken").symlink_to("nowhere")
    copy = template(tmp_path, project).copy(str(tmp_path / "base/1"))
    there = Path(copy.there(str(project)))
    for name in ("relative", "absolute", "folder/x.txt"):
        assert os.path.realpath(there / name) == str(there / "sub/x.txt"), name
    assert os.path.realpath(there / "away") == str(tmp_path / "outside.txt")
    assert (there / "broken").is_symlink()


def test_hard_coded_paths_are_translated_where_they_are_written_down(tmp_path: Path) -> None:
    project = tmp_path / "p"
    text = f"OUT = '{project}/out'\nALSO = '{project}'\nOTHER = '{project}2/x'\nDEEP = '/x{project}/y'\n# ä {project}/\n"
    write(project / "train.py", text)
    write(project / "data.csv", f"{project}/img.png")
    write(project / "config.yaml", f"dir: {project}\n")
    copy = template(tmp_path, project).copy(str(tmp_path / "base/1"))
    there = copy.there(str(project))
    expected = f"OUT = '{there}/out'\nALSO = '{there}'\nOTHER = '{project}2/x'\nDEEP = '/x{project}/y'\n# ä {there}/\n"
    assert Path(there, "train.py").read_text() == expected
    assert Path(there, "config.yaml").read_text() == f"dir: {there}\n"
    assert Path(there, "data.csv").read_text() == f"{project}/img.png"  # data stays as it is
    assert copy.text(f"--out={project}/o --x {project}er") == f"--out={there}/o --x {project}er"
    assert (project / "train.py").read_text() == text


def test_large_files_are_linked_unless_a_library_could_write_them_in_place_unseen(tmp_path: Path) -> None:
    project = tmp_path / "p"
    project.mkdir()
    for name in ("data.npy", "weights.pt"):
        with open(project / name, "wb") as file:
            file.truncate(sandbox.LINK_FROM + 1)
    behind_a_wall = Path(template(tmp_path, project).copy(str(tmp_path / "base/1")).there(str(project)))
    assert (behind_a_wall / "data.npy").is_symlink() and (behind_a_wall / "weights.pt").is_symlink()
    (tmp_path / "other").mkdir()
    without = Path(template(tmp_path / "other", project, sealed=False).copy(str(tmp_path / "base/2")).there(str(project)))
    assert (without / "data.npy").is_symlink() and not (without / "weights.pt").is_symlink()


def test_a_folder_of_data_that_is_too_large_is_linked_and_a_project_that_is_too_large_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "MOST_FILES", 20)
    project = tmp_path / "p"
    write(project / "train.py")
    for n in range(30):
        write(project / f"images/{n}.png")
    there = Path(template(tmp_path, project).copy(str(tmp_path / "base/1")).there(str(project)))
    assert (there / "images").is_symlink() and not (there / "train.py").is_symlink()
    for n in range(30):
        write(project / f"{n}.txt")
    with pytest.raises(sandbox.CannotCopy, match="too large"):
        template(tmp_path, project)


def test_a_copy_lists_its_files_in_the_order_of_the_original(tmp_path: Path) -> None:
    project = tmp_path / "p"
    for name in ("c", "a", "d", "b"):
        write(project / f"data/{name}")
    made = template(tmp_path, project)
    made.order[str(project / "data")] = ["d", "b", "c", "a"]  # what another file system might say
    copy = made.copy(str(tmp_path / "base/1"))
    data = Path(copy.there(str(project / "data")))
    before = os.listdir, os.scandir
    copy.list_in_the_old_order()
    try:
        write(data / "0new")
        assert os.listdir(data) == ["d", "b", "c", "a", "0new"]
        with os.scandir(str(data)) as entries:
            assert [e.name for e in entries] == ["d", "b", "c", "a", "0new"]
        assert [p.name for p in data.iterdir()] == ["d", "b", "c", "a", "0new"]
        assert next(os.walk(data))[2] == ["d", "b", "c", "a", "0new"]
        assert len(os.listdir()) == len(before[0]())
        assert os.listdir(bytes(data)) == [os.fsencode(n) for n in before[0](data)] or len(os.listdir(bytes(data))) == 5
    finally:
        os.listdir, os.scandir = before


def test_the_variables_of_an_arm(tmp_path: Path) -> None:
    project = tmp_path / "p"
    write(project / "train.py")
    copy = template(tmp_path, project).copy(str(tmp_path / "base/1"))
    before = {"PATH": f"{project}/bin", "OUT": f"{project}/out", "PWD": str(project)}
    after = sandbox.environment(copy, "/scratch/tmp", before)
    assert after["PATH"] == before["PATH"]
    assert (after["OUT"], after["PWD"]) == (copy.there(f"{project}/out"), copy.there(str(project)))
    assert (after["UNSTUCK_ARM"], after["WANDB_MODE"], after["OMP_NUM_THREADS"]) == ("1", "disabled", "1")


# An audit hook and the kernel's wall are for good: each of these runs in a process of its own.
BEHIND = """
import os, sys, socket, sqlite3, shutil, pathlib, subprocess
from unstuck.experiments import sandbox
project, base, outside = sys.argv[1:4]
scratch = sandbox.Template([project], base + "/template", sealed=True).copy(base + "/work")
guard = sandbox.Guard(scratch, [base])
os.chdir(scratch.there(project))
if WALL: assert sandbox.seal([base, "/dev"])
if HOOK: guard.install()
try:
    exec(sys.argv[4])
except OSError as error:
    print(type(error).__name__, error)
except sqlite3.Error as error:
    print(type(error).__name__, error)
else:
    print("done")
"""


def behind(tmp_path: Path, code: str, *, wall: bool, hook: bool) -> str:
    project, base, outside = (tmp_path / n for n in ("p", "base", "outside"))
    write(project / "train.py", "")
    write(outside / "theirs.txt", "theirs")
    write(outside / "folder/x", "x")
    base.mkdir(exist_ok=True)
    program = f"WALL, HOOK = {wall}, {hook}\n{BEHIND}"
    command = [sys.executable, "-c", program, str(project), str(base), str(outside), code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (outside / "theirs.txt").read_text() == "theirs"
    assert sorted(p.name for p in outside.rglob("*")) == ["folder", "theirs.txt", "x"]
    return done.stdout.strip()


WRITES = {
    "open": "open(outside + '/new', 'w')",
    "append": "open(outside + '/theirs.txt', 'a')",
    "update": "open(outside + '/theirs.txt', 'r+b')",
    "os.open": "os.open(outside + '/new', os.O_WRONLY | os.O_CREAT)",
    "mkdir": "os.makedirs(outside + '/a/b')",
    "remove": "os.remove(outside + '/theirs.txt')",
    "rmtree": "shutil.rmtree(outside + '/folder')",
    "rename": "open('mine', 'w').close(); os.rename('mine', outside + '/mine')",
    "rename away": "os.rename(outside + '/theirs.txt', 'mine')",
    "copy": "shutil.copy('train.py', outside)",
    "truncate": "os.truncate(outside + '/theirs.txt', 0)",
    "symlink": "os.symlink('x', outside + '/link')",
    "hard link": "os.link(outside + '/theirs.txt', 'mine'); open('mine', 'w')",
    "through a link": "os.symlink(outside + '/theirs.txt', 'mine'); open('mine', 'w')",
    "through ..": "open('../../' * 20 + outside[1:] + '/new', 'w')",
    "sqlite": "sqlite3.connect(outside + '/new').execute('create table t (x)')",
}


@pytest.mark.parametrize("name", WRITES)
def test_the_hook_refuses_and_names_the_path(tmp_path: Path, name: str) -> None:
    said = behind(tmp_path, WRITES[name], wall=False, hook=True)
    assert said.startswith("Refused unstuck verify: the script writes to "), said
    assert str(tmp_path / "outside") in said and said.endswith("outside its own folder")


@pytest.mark.skipif(not sandbox.can_seal(), reason="this kernel has no Landlock")
@pytest.mark.parametrize("name", [*WRITES, "program"])
def test_the_kernels_wall_holds_alone(tmp_path: Path, name: str) -> None:
    program = (
        "if subprocess.run(['sh', '-c', f'echo x > {outside}/theirs.txt; echo x > {outside}/new']).returncode:\n"
        "    raise OSError('the program failed')"
    )
    said = behind(tmp_path, WRITES.get(name, program), wall=True, hook=False)
    assert said != "done", said


FREE = {
    "relative": "os.makedirs('a/b'); open('a/b/c', 'w').write('x'); os.rename('a/b/c', 'd'); os.remove('d'); shutil.rmtree('a')",
    "own": "open('train.py', 'a').write('x'); os.chmod('train.py', 0o600); os.utime('train.py')",
    "sqlite": "sqlite3.connect('mine.db').execute('create table t (x)'); sqlite3.connect(':memory:')",
    "null": "open(os.devnull, 'w').write('x')",
    "reads": "open(outside + '/theirs.txt').read(); os.listdir(outside)",
    "a folder that is there": "os.makedirs(outside, exist_ok=True)",
    "a link away": "os.symlink(outside + '/theirs.txt', 'mine'); os.remove('mine')",
    "program": "subprocess.run(['sh', '-c', 'echo x > mine'], check=True)",
    "this machine": "s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()); "
    "socket.getaddrinfo('localhost', 80)",
}


@pytest.mark.parametrize("name", FREE)
def test_what_an_arm_may_do(tmp_path: Path, name: str) -> None:
    assert behind(tmp_path, FREE[name], wall=sandbox.can_seal(), hook=True) == "done"


@pytest.mark.parametrize("code", ["socket.create_connection(('example.org', 80))", "socket.socket().connect(('192.0.2.1', 80))",
                                  "import urllib.request; urllib.request.urlopen('https://example.org/x')"])  # fmt: skip
def test_other_machines_are_refused_by_name(tmp_path: Path, code: str) -> None:
    said = behind(tmp_path, code, wall=False, hook=True)
    assert "the script connects to " + ("192.0.2.1" if "192" in code else "example.org") in said


@pytest.mark.parametrize("code", ["input('Continue? ')", "sys.stdin.readline()", "list(sys.stdin)", "sys.stdin.buffer.read()"])
def test_nobody_answers(tmp_path: Path, code: str) -> None:
    said = behind(tmp_path, code, wall=False, hook=True)
    assert "the script reads standard input" in said
    assert ("'Continue?'" in said) == ("input" in code)
