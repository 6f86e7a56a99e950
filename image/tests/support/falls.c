/* A system that serves like any other, until an interrupt that cannot be masked: Cairn, whose program
   is in the file PROGRAM, on a kernel that was told to panic then. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

__asm__(".section .rodata\n"
        "program: .incbin \"" PROGRAM "\"\n"
        "program_end:\n"
        ".previous\n");
extern const char program[], program_end[];
extern char **environ;

static int ask_for_panic(void) {
    mount("proc", "/proc", "proc", 0, "");
    int setting = open("/proc/sys/kernel/unknown_nmi_panic", O_WRONLY);
    int done = setting >= 0 && write(setting, "1", 1) == 1;
    close(setting);
    umount("/proc");
    return done;
}

int main(int argc, char **argv) {
    (void)argc;
    if (getpid() == 1 && !ask_for_panic())
        return 1;
    int file = memfd_create("program", MFD_CLOEXEC);
    for (const char *at = program; at < program_end;) {
        ssize_t len = write(file, at, program_end - at);
        if (len <= 0)
            return 1;
        at += len;
    }
    fexecve(file, argv, environ);
    return 1;
}
