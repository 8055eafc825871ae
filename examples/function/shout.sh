# Says in capitals what it is sent, and who sent it: the header "Name" of the message.
printf '%s says: ' "${NEX_TRIGGER_HEADER_NAME:-somebody}"
tr a-z A-Z
echo "shouted on $NEX_TRIGGER_SUBJECT" >&2
