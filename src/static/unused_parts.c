/*
 * What the libraries linked here reach and this program never uses. Defined ahead of the archives, these keep the real
 * members out of the executable. Nothing here pretends to work: what could be called fails, loudly where C has no way to say so.
 */
#include <stddef.h>
#include <stdlib.h>

/*
 * The HTTP client makes Brotli reachable, though automatic decompression is always off (digests are of stored
 * bytes): 0.86 MB of tables. Creating a codec fails cleanly.
 */
#define ABSENT(name) \
    void *name(void) { return NULL; }

ABSENT(BrotliDecoderCreateInstance)
ABSENT(BrotliDecoderDecompress)
ABSENT(BrotliDecoderDecompressStream)
ABSENT(BrotliDecoderDestroyInstance)
ABSENT(BrotliDecoderIsFinished)
ABSENT(BrotliEncoderCompress)
ABSENT(BrotliEncoderCompressStream)
ABSENT(BrotliEncoderCreateInstance)
ABSENT(BrotliEncoderDestroyInstance)
ABSENT(BrotliEncoderHasMoreOutput)
ABSENT(BrotliEncoderMaxCompressedSize)
ABSENT(BrotliEncoderSetParameter)

/*
 * SQLite's built-in extensions (full-text search, R-trees, statistics) register themselves when a connection opens; the catalog
 * uses none of them: 0.31 MB. Registering nothing is success (0), and a statement that names one is "no such module".
 */
#define NOTHING_TO_REGISTER(name) \
    int name(void *connection) { (void)connection; return 0; }

NOTHING_TO_REGISTER(sqlite3DbstatRegister)
NOTHING_TO_REGISTER(sqlite3Fts3Init)
NOTHING_TO_REGISTER(sqlite3Fts5Init)
NOTHING_TO_REGISTER(sqlite3RtreeInit)
NOTHING_TO_REGISTER(sqlite3StmtVtabInit)

/*
 * Behind SQLite's SQL functions of the same names, which no statement of the catalog uses: 0.25 MB. The program itself calls none;
 * should it ever, it ends at once rather than compute nonsense, and the function is taken off this list.
 */
#define NEVER_CALLED(type, name, ...) \
    type name(__VA_ARGS__) { abort(); }

NEVER_CALLED(double, acos, double x __attribute__((unused)))
NEVER_CALLED(double, acosh, double x __attribute__((unused)))
NEVER_CALLED(double, asin, double x __attribute__((unused)))
NEVER_CALLED(double, asinh, double x __attribute__((unused)))
NEVER_CALLED(double, atan, double x __attribute__((unused)))
NEVER_CALLED(double, atan2, double y __attribute__((unused)), double x __attribute__((unused)))
NEVER_CALLED(double, atanh, double x __attribute__((unused)))
NEVER_CALLED(double, cosh, double x __attribute__((unused)))
NEVER_CALLED(double, sinh, double x __attribute__((unused)))
NEVER_CALLED(double, tan, double x __attribute__((unused)))
NEVER_CALLED(double, tanh, double x __attribute__((unused)))
