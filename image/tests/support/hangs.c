/* A system that holds the watchdog and lets it bite. It says by which one it is watched. */
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

int main(int argc, char **argv) {
    (void)argv;
    if (argc == 3) {
        puts("version = \"0.3.0\"\nfloor = \"0.1.0\"\n"
             "log = { reads_from = 1, reads_to = 1, writes = 1 }");
        return 0;
    }
    mount("dev", "/dev", "devtmpfs", 0, "");
    int watchdog = open("/dev/watchdog", O_WRONLY);
    int console = open("/dev/ttyS0", O_WRONLY | O_NOCTTY);
    struct watchdog_info info = {0};
    int patience_s = 10;
    ioctl(watchdog, WDIOC_GETSUPPORT, &info);
    ioctl(watchdog, WDIOC_SETTIMEOUT, &patience_s);
    dprintf(console, "it hangs, watched by %s\n", info.identity);
    for (;;)
        pause();
}
