"""A BitTorrent process of the benches: libtorrent over TCP, on the settings it recommends for fast seeds.

    torrent.py make FILE TORRENT
    torrent.py seed|leech|stay TORRENT FOLDER LISTEN [PEER...]

Says `ready`, begins when it reads a line, says `done SECONDS` once everything is verified and handed to the disk; `stay`
serves on after that.
"""

import signal
import sys
import time

import libtorrent as lt

PIECE = 1024 * 1024


def make(path, torrent):
    made = lt.create_torrent(lt.list_files(path), PIECE, lt.create_torrent.v1_only)
    lt.set_piece_hashes(made, path.rsplit("/", 1)[0])
    with open(torrent, "wb") as out:
        out.write(lt.bencode(made.generate()))


def session(listen):
    settings = lt.high_performance_seed()
    settings.update(
        {
            "listen_interfaces": listen,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "allow_multiple_connections_per_ip": True,
            "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.storage_notification
            | lt.alert.category_t.error_notification,
        }
    )
    return lt.session(settings)


def wait_for(ses, kinds):
    while True:
        ses.wait_for_alert(1000)
        for alert in ses.pop_alerts():
            if isinstance(alert, kinds):
                return alert
            if isinstance(alert, (lt.torrent_error_alert, lt.file_error_alert, lt.listen_failed_alert)):
                sys.exit(alert.message())


def run(verb, torrent, folder, listen, peers):
    ses = session(listen)
    wait_for(ses, lt.listen_succeeded_alert)
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = folder
    params.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
    if verb == "seed":
        params.flags |= lt.torrent_flags.seed_mode
        ses.add_torrent(params)
    print("ready", flush=True)
    sys.stdin.readline()
    if verb != "seed":
        begun = time.monotonic()
        handle = ses.add_torrent(params)
        for peer in peers:
            host, port = peer.rsplit(":", 1)
            handle.connect_peer((host, int(port)))
        wait_for(ses, lt.torrent_finished_alert)
        handle.flush_cache()
        wait_for(ses, lt.cache_flushed_alert)
        print("done", time.monotonic() - begun, flush=True)
    if verb != "leech":
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if sys.argv[1] == "make":
        make(sys.argv[2], sys.argv[3])
    else:
        run(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
