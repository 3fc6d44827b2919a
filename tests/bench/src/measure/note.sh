#!/bin/sh
# The classic script as it was published, one command after the other. What differs: names and external addresses fit any
# number of environments, and everything happens in the network namespace it is started in.
# Usage: note.sh up|down HOST ENVIRONMENTS
set -e -u
VERB=$1 HOST=$2 COUNT=$3 DEV=eth0

up() {
  echo 1 >/proc/sys/net/ipv4/ip_forward
  echo 1 >/proc/sys/net/ipv4/conf/all/proxy_arp
  echo 1 >"/proc/sys/net/ipv4/conf/$DEV/proxy_arp"
  echo 1 >/proc/sys/net/ipv4/conf/default/proxy_arp

  ENV=1
  while [ "$ENV" -le "$COUNT" ]; do
    NS="$HOST-ns$ENV" NET="172.$((16 + ENV / 256)).$((ENV % 256))"
    ip link add name "br$ENV" type bridge
    ip link set dev "br$ENV" up

    ip netns add "$NS"

    ip link add name "gw$ENV" link "$DEV" type macvlan
    ip link set dev "gw$ENV" netns "$NS"
    ip netns exec "$NS" ip addr add "$NET.1/12" dev "gw$ENV"
    ip netns exec "$NS" ip link set dev "gw$ENV" up
    ip netns exec "$NS" ip route add default via 172.16.0.1

    ip link add "peer1-br$ENV" type veth peer name "peer1-gw$ENV"
    ip link set "peer1-br$ENV" master "br$ENV"
    ip link set "peer1-br$ENV" up
    ip link set dev "peer1-gw$ENV" netns "$NS"
    ip netns exec "$NS" ip addr add 10.0.0.1/24 dev "peer1-gw$ENV"
    ip netns exec "$NS" ip link set dev "peer1-gw$ENV" up
    ip netns exec "$NS" ip route add "$NET.0/24" dev "peer1-gw$ENV"

    for VM in 2 3; do
      ip netns exec "$NS" iptables -t nat -A PREROUTING -d "$NET.$VM" -j DNAT --to-destination "10.0.0.$VM"
      ip netns exec "$NS" iptables -t nat -A POSTROUTING -s "10.0.0.$VM" -j SNAT --to "$NET.$VM"

      ip tuntap add dev "vm$ENV.$VM" mode tap user root group root
      ip link set "vm$ENV.$VM" master "br$ENV"
      ip link set "vm$ENV.$VM" up
    done
    ENV=$((ENV + 1))
  done
}

# The note has no way back; this is the shortest.
down() {
  ENV=1
  while [ "$ENV" -le "$COUNT" ]; do
    for VM in 2 3; do
      ip link del "vm$ENV.$VM"
    done
    ip link del "peer1-br$ENV"
    ip link del "br$ENV"
    ip netns del "$HOST-ns$ENV"
    ENV=$((ENV + 1))
  done
}

"$VERB"
