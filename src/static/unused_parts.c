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

/* Nothing is compressed here either: the stream class that inflates brings deflate along. zlib's own word for "no" (Z_STREAM_ERROR). */
#define NO_DEFLATE(name, ...) \
    int name(__VA_ARGS__) { return -2; }

NO_DEFLATE(deflateInit2_, void *stream __attribute__((unused)))
NO_DEFLATE(deflate, void *stream __attribute__((unused)))
NO_DEFLATE(deflateEnd, void *stream __attribute__((unused)))

/*
 * OpenSSL's AES-CBC stitched together with HMAC: a faster form of TLS 1.2's old cipher suites, 0.13 MB. Said to be absent in OpenSSL's own
 * way, as on a processor that cannot do it; the suites themselves work with the ciphers and HMAC apart.
 */
#define NOT_CAPABLE(name) \
    int name(void) { return 0; }
#define EMPTY_DISPATCH(name) \
    extern const void *const name[2]; \
    const void *const name[2] = {NULL, NULL};

NOT_CAPABLE(ossl_cipher_capable_aes_cbc_hmac_sha1)
NOT_CAPABLE(ossl_cipher_capable_aes_cbc_hmac_sha256)
EMPTY_DISPATCH(ossl_aes128cbc_hmac_sha1_functions)
EMPTY_DISPATCH(ossl_aes256cbc_hmac_sha1_functions)
EMPTY_DISPATCH(ossl_aes128cbc_hmac_sha256_functions)
EMPTY_DISPATCH(ossl_aes256cbc_hmac_sha256_functions)
ABSENT(EVP_aes_128_cbc_hmac_sha1)
ABSENT(EVP_aes_256_cbc_hmac_sha1)
ABSENT(EVP_aes_128_cbc_hmac_sha256)
ABSENT(EVP_aes_256_cbc_hmac_sha256)

/*
 * SQLite's built-in extensions (full-text search, R-trees, JSON, statistics) register themselves when a connection opens; the catalog
 * uses none of them: 0.33 MB. Registering nothing is success (0), and a statement that names one is "no such module".
 */
#define NOTHING_TO_REGISTER(name) \
    int name(void *connection) { (void)connection; return 0; }

NOTHING_TO_REGISTER(sqlite3DbstatRegister)
NOTHING_TO_REGISTER(sqlite3Fts3Init)
NOTHING_TO_REGISTER(sqlite3Fts5Init)
NOTHING_TO_REGISTER(sqlite3JsonTableFunctions)
NOTHING_TO_REGISTER(sqlite3RtreeInit)
NOTHING_TO_REGISTER(sqlite3StmtVtabInit)

void sqlite3RegisterJsonFunctions(void) { }

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
