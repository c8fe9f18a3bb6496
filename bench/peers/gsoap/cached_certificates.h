/* Included before gSOAP's wsseapi.c. As it comes, the plugin parses the sender's certificate and builds its chain for each
 * message. Enrolled senders are known by the certificate's digest, so both are done once, at the start: the parsed
 * certificate comes from enrolled.c, and the chain is replaced by the check of its dates. */
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

X509 *enrolled_certificate(X509 **ignored, const unsigned char **der, long length);
int enrolled_is_valid(X509_STORE_CTX *ignored);

#define d2i_X509 enrolled_certificate
#define X509_verify_cert enrolled_is_valid
