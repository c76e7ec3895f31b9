# Makes two authorities, ours and theirs, and a certificate for $NAME that each has signed.
set -eu
for who in ours theirs; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
        -subj "/CN=$who authority" -keyout $who-ca.key -out $who-ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -subj "/CN=process" -keyout $who.key -out $who.csr
    openssl x509 -req -in $who.csr -CA $who-ca.pem -CAkey $who-ca.key -CAcreateserial -days 30 \
        -extfile <(echo "subjectAltName=$NAME") -out $who.pem
done
