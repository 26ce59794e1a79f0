# Reads `nm -A libcrypto.a libssl.a`; decides which members of OpenSSL's archives the executable does without, and writes into the file MEMBERS
# a line "ARCHIVE MEMBER" each, and to stdout the C text of what the rest still names of them.
#
# A family may go where its absence is something OpenSSL already knows how to say: an algorithm's table without functions is "not supported", an EVP_
# function without a cipher and a method of compression are NULL, a processor that is not capable of an instruction has another way, a curve has a
# portable form. What only they would have led to, and QUIC, for which somebody would have to ask, ends the program if it were ever
# reached. A member that the rest needs in any other way stays, so that a later OpenSSL costs bytes, not the build.
BEGIN {
    # ciphers, hashes and key derivations that neither TLS nor today's certificates use, and AES-GCM for 512-bit registers (0.7 MB in OpenSSL 3.5; the
    # next best is faster than any network)
    family = "^(e_)?(aria|camellia|seed|sm4)$|^cipher_(aria|camellia|seed|sm4)(_|$)|^cmll|^seed_(cbc|cfb|ecb|ofb)$|^cipher_aes_(gcm_siv|ocb|siv|wrp|xts)(_|$)"
    family = family "|^(argon2|krb5kdf|ripemd_prov|siphash|siphash_prov|sshkdf|sskdf|x942kdf)$|^blake2|^(aes-gcm|aesni-xts)-avx512$"
    family = family "|^(e_|cipher_)(bf|blowfish|cast5?|idea|rc2|rc4|rc5)(_|$)|^bf_(cfb64|ecb|enc|ofb64|skey)$|^rc2_|^c_(cfb64|ecb|enc|ofb64|skey)$|^(m_|md_)?(md4|mdc2|ripemd|rmd)|^sm[23]_(sig|enc|prov)$"
    # keys are written by nobody as text
    family = family "|^encode_key2text$"
    # curves in a form of their own for speed: the portable ones serve, some tenths of a millisecond a handshake slower
    family = family "|^ecp_(nistz256.*|nistp224|nistp521)$"
    family = family "|^quic_(ackm|cfq|channel|demux|fc|fifd|lcidm|port|rcidm|reactor|record_.*|rstream|rx_depack|srt_gen|srtm|sstream|stream_map|strm_reas|tserver|txp|txpim|wire|wire_pkt)$|^(json_enc|qlog.*)$"
}

NF >= 2 {
    # ARCHIVE:MEMBER:ADDRESS TYPE NAME, the address absent where the symbol is not defined there
    split($1, place, ":")
    member = place[1] ":" place[2]
    if ($(NF - 1) == "U") {
        needs[member] = needs[member] " " $NF
        # compression of certificates and messages, where the distribution builds it in: other libraries would have to come along
        if ($NF ~ /^(deflate|BrotliEncoder|ZSTD_)/)
            out[member] = 1
    }
    else if ($(NF - 1) ~ /^[TDRBVW]$/) {
        home[$NF] = member
        kind[$NF] = $(NF - 1) == "T" || $(NF - 1) == "W" ? "function" : "table"
    }
    if (!(member in seen)) {
        seen[member] = 1
        name = place[2]
        sub(/^lib(crypto|common|default|legacy|ssl)-lib-/, "", name)
        sub(/\.o$/, "", name)
        if (name ~ family)
            out[member] = 1
    }
}

function absent(symbol) {
    if (kind[symbol] == "table")
        return symbol ~ /_functions$/ ? "EMPTY_TABLE" : ""
    if (symbol ~ /^EVP_|_(capable|eligible)$|^(COMP|BIO_f)_(brotli|zlib|zstd)(_oneshot)?$/)
        return "ABSENT"
    if (symbol ~ /^ossl_comp_(brotli|zlib|zstd)_cleanup$/)
        return "NOTHING_TO_DO"
    if (symbol ~ /^EC_GFp_nist(p224|p521|z256)_method$/)
        return symbol ~ /z256/ ? "OTHER_P256" : "OTHER_CURVE"
    return symbol ~ /_avx512$|^EC_nist(p224|p521|z256)_pre_comp_(dup|free)$|^ossl_(quic|qlog)_/ ? "NEVER_REACHED" : ""
}

END {
    do {
        changed = 0
        for (member in needs)
            if (!(member in out)) {
                count = split(needs[member], names, " ")
                for (i = 1; i <= count; i++)
                    if (home[names[i]] in out && absent(names[i]) == "") {
                        delete out[home[names[i]]]
                        changed = 1
                    }
            }
    } while (changed)

    for (member in needs)
        if (!(member in out)) {
            count = split(needs[member], names, " ")
            for (i = 1; i <= count; i++)
                if (home[names[i]] in out)
                    stub[names[i]] = absent(names[i])
        }
    print "#include <stdlib.h>"
    print "#define EMPTY_TABLE(name) extern const void *const name[2]; const void *const name[2] = {NULL, NULL};"
    print "#define ABSENT(name) void *name(void); void *name(void) { return NULL; }"
    print "#define NOTHING_TO_DO(name) void name(void); void name(void) { }"
    print "#define NEVER_REACHED(name) void name(void); void name(void) { abort(); }"
    print "const void *EC_GFp_mont_method(void); const void *EC_GFp_nistp256_method(void);"
    print "#define OTHER_CURVE(name) const void *name(void); const void *name(void) { return EC_GFp_mont_method(); }"
    print "#define OTHER_P256(name) const void *name(void); const void *name(void) { return EC_GFp_nistp256_method(); }"
    for (name in stub)
        print stub[name] "(" name ")"
    for (member in out) {
        split(member, place, ":")
        print place[1], place[2] > MEMBERS
    }
}
