#!/usr/bin/python3
"""A target of one of many kinds. Usage: program.py KIND PORT DIR [--inside]

Its main process listens on the port, notes its id in DIR/mains, and serves nothing.
"""

import ctypes
import fcntl
import os
import platform
import signal
import socket
import sys
import threading
import time

kind, port, place = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if "PLACE" in os.environ:
    port, place = 0, os.environ["PLACE"]
pid_file = os.path.join(place, "own.pid")


def write(path, text, mode="w"):
    with open(path, mode) as file:
        file.write(text)


def listen(shared=False):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.bind(("127.0.0.1", port))
    server.listen(16)
    return server


def begin(server=None, pid=None):
    write(os.path.join(place, "mains"), f"{pid or os.getpid()}\n", "a")
    return server


def sleep():
    while True:
        time.sleep(1000)


def leave():
    """Ends the process that was started and goes on in a child of its session."""
    if os.fork():
        os._exit(0)


def go_to_background():
    leave()
    os.setsid()
    leave()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def guard(text):
    """Ends, as PostgreSQL does, when somebody has touched its lock file."""
    stamp = os.stat(pid_file)
    while True:
        time.sleep(0.05)
        now = os.stat(pid_file)
        if open(pid_file).read() != text or now.st_mtime_ns != stamp.st_mtime_ns:
            write(os.path.join(place, "lock-file-touched"), "")
            os._exit(1)


def fork(n, do):
    for _ in range(n):
        if not os.fork():
            _kept_open = do()
            sleep()


def is_gone(pid):
    try:
        return ") Z" in open(f"/proc/{pid}/stat").read()
    except OSError:
        return True


def keep():
    """Outlives the server, and starts another one each time it has ended."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = os.getppid()
    while True:
        while not is_gone(server):
            time.sleep(0.02)
        # Its end was seen and written down meanwhile.
        time.sleep(0.5)
        server = os.fork()
        if not server:
            return


if kind.startswith("titled") and "--inside" not in sys.argv:
    # As with setproctitle: another name, and no environment to be seen.
    title = "shop: master [app:app]"
    os.execve(sys.executable, [title, *sys.argv, "--inside"], {})

if kind == "ignores_sigterm":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if kind == "kept" and not os.fork():
    keep()
if kind in ("listening_worker", "listening_twins", "restarts_its_server"):
    begin()
    if kind == "listening_worker":
        fork(1, lambda: (os.setsid(), listen()))
    elif kind == "listening_twins":
        fork(2, lambda: listen(shared=True))
    while kind == "restarts_its_server":
        fork(1, listen)
        os.wait()
    sleep()
if kind.startswith("background"):
    go_to_background()
elif kind.startswith("script_ends"):
    leave()

server = listen()
if kind == "late_pid_file":
    begin(server)
    time.sleep(0.5)
    write(pid_file, f"{os.getpid()}\n")
    sleep()
if kind in ("own_pid_file", "titled_pid_file", "background_pid_file", "script_ends_pid_file", "workers_pid_file"):
    write(pid_file, f"{os.getpid()}\n")
if kind == "locked_pid_file":
    lock = open(pid_file, "a+")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
if kind == "lock_file":
    text = f"{os.getpid()}\n{place}\n{int(time.time())}\n{port}\n/run\n*\nready   \n"
    write(pid_file, text)
    begin(server)
    guard(text)
if kind in ("workers", "workers_pid_file", "titled_workers"):
    fork(3, lambda: None)
if kind == "many_children":
    fork(40, server.close)
if kind == "zombies":
    fork(5, lambda: os._exit(0))
if kind == "other_short_name":
    ctypes.CDLL(None).prctl(15, b"some-name", 0, 0, 0)
if kind == "other_directory":
    os.chdir("/")
if kind == "no_directory":
    os.mkdir(os.path.join(place, "gone"))
    os.chdir(os.path.join(place, "gone"))
    os.rmdir(os.path.join(place, "gone"))
if kind == "below_a_shell":
    begin(server, os.getppid())
    sleep()
if kind == "worker_of_its_own":
    if not os.fork():
        os.setsid()
        server.close()
        sleep()
if kind == "threads":
    for _ in range(20):
        threading.Thread(target=sleep, daemon=True).start()
if kind == "first_thread_ends":
    threading.Thread(target=sleep).start()
    begin(server)
    number = {"x86_64": 60, "aarch64": 93}[platform.machine()]
    ctypes.CDLL(None).syscall(number, 0)
begin(server)
sleep()
