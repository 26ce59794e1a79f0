/*
 * Linked into the static executable ahead of the .NET runtime's archives, so that nothing the
 * surrounding root file system contains, or lacks, changes what the program does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <nss.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/*
 * Descriptors 0 to 2 always exist. Were one closed, the next file opened would become "standard output"
 * and be written to, and the runtime aborts when it cannot duplicate 1 or 2. What stands in is a pipe whose
 * other end is closed: it reads as the end of a file and writes as EPIPE.
 */
static void hold_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            continue;
        /* not /dev/null: an archive that was to go to standard output would be lost, and all be well */
        int ends[2];
        if (pipe(ends) != 0)
            continue;
        int stand_in = fcntl(ends[fd == 0 ? 0 : 1], F_DUPFD, 3);
        close(ends[0]);
        close(ends[1]);
        if (stand_in >= 0) {
            dup2(stand_in, fd);
            close(stand_in);
        }
    }
    signal(SIGPIPE, SIG_IGN);
}

/*
 * Only the name services compiled into libc.a. The default reads the machine's nsswitch.conf and loads its
 * modules together with its own libc, which is another version than the one linked here: a crash.
 */
static void pin_name_services(void)
{
    static const char *const databases[] = {"passwd", "group", "services", "protocols", "networks", "netgroup"};
    __nss_configure_lookup("hosts", "files dns");
    for (size_t i = 0; i < sizeof databases / sizeof databases[0]; i++)
        __nss_configure_lookup(databases[i], "files");
}

__attribute__((constructor)) static void prepare(void)
{
    hold_standard_descriptors();
    pin_name_services();
    /* building a certificate chain insists on a home directory, though every root comes from us */
    const char *home = getenv("HOME");
    if (home == NULL || *home == '\0')
        setenv("HOME", "/nonexistent", 1);
    /* the machine's openssl.cnf may name providers that a static OpenSSL cannot load, which aborts */
    setenv("OPENSSL_CONF", "/nonexistent", 0);
}

/*
 * The runtime takes settings from DOTNET_*: one for a crash dump's program, which is not here, ends the process with 255 before our first line, others
 * change how much memory it takes. Such variables are meant for the program that runs in the same pod or shell. They are not removed, for a credential
 * helper may need them. Static.targets has the linker send every call of getenv here.
 */
char *__real_getenv(const char *name);
char *__wrap_getenv(const char *name);
char *__wrap_getenv(const char *name)
{
    return strncmp(name, "DOTNET_", 7) == 0 ? NULL : __real_getenv(name);
}

/*
 * The runtime's own start, which fails in silence, with 255, where it gets too little memory or no thread: a failure of the machine like any other. As above
 * for the way here.
 */
bool __real_RhInitialize(bool is_library);
bool __wrap_RhInitialize(bool is_library);
bool __wrap_RhInitialize(bool is_library)
{
    static const char told[] = "nativepull: out of memory: too little of it, or of threads, to begin with\n";
    if (__real_RhInitialize(is_library))
        return true;
    if (write(2, told, sizeof told - 1) < 0) {
        /* nobody to tell */
    }
    _exit(8);
}

/*
 * Container runtimes that do not know clone3(2) yet answer it with EPERM, and glibc goes on to clone(2) only where a kernel lacks it: no thread and no process
 * could be made. Its own call (clone-internal.c) comes here first. As above for the way here.
 */
struct clone_args;
int __real___clone3(struct clone_args *arguments, size_t size, int (*function)(void *), void *argument);
int __wrap___clone3(struct clone_args *arguments, size_t size, int (*function)(void *), void *argument);
int __wrap___clone3(struct clone_args *arguments, size_t size, int (*function)(void *), void *argument)
{
    int result = __real___clone3(arguments, size, function, argument);
    if (result < 0 && errno == EPERM)
        errno = ENOSYS;
    return result;
}

/* Random bytes from the system call; the runtime's own version opens /dev/urandom, which may not be there. */
static int32_t fill_random(uint8_t *bytes, int32_t count)
{
    while (count > 0) {
        ssize_t got = getrandom(bytes, (size_t)count, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        bytes += got;
        count -= (int32_t)got;
    }
    return 0;
}

int32_t SystemNative_GetCryptographicallySecureRandomBytes(uint8_t *bytes, int32_t count) { return fill_random(bytes, count); }

void SystemNative_GetNonCryptographicallySecureRandomBytes(uint8_t *bytes, int32_t count) { (void)fill_random(bytes, count); }

/* No shared library is ever loaded: it would bring a second libc into the process. */
void *dlopen(const char *file, int mode) { (void)file; (void)mode; return NULL; }
void *dlsym(void *handle, const char *name) { (void)handle; (void)name; return NULL; }
int dlclose(void *handle) { (void)handle; return 0; }
char *dlerror(void) { return (char *)"a static executable loads no shared library"; }
